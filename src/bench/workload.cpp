#include "bench/workload.h"

#include <ATen/ATen.h>
#include <ATen/Context.h>

#include <algorithm>
#include <cmath>

#include "core/str.h"
#include "ops/ops.h"
#include "ops/problem.h"

namespace power::bench {
namespace {

// The form that a shape runs in: the operator's own choice where the caller leaves it open.
int64_t chunk_of(const OperatorShape& s, std::optional<int64_t> wanted, const at::Tensor& q) {
  if (wanted.has_value()) return *wanted;
  ops::Problem problem{};
  problem.batch = s.batch, problem.query_len = problem.key_len = s.len;
  problem.heads = s.heads, problem.query_heads = s.heads * s.group;
  problem.head_dim = problem.value_dim = s.head_dim, problem.degree = s.degree;
  return ops::choose_chunk_size(problem, ops::backend_of(problem, q.device().type(), q.scalar_type()));
}

// A visible pair costs 4 D forward and 10 D backward (five products), as for softmax; the chunked form pays that inside
// its chunks, and 2 F D (1 + 1/R) and twice that for its states.
void count_work(Workload& work, const OperatorShape& s, int64_t chunk, int64_t element_bytes) {
  const double tokens = static_cast<double>(s.batch * s.len * s.heads * s.group), D = static_cast<double>(s.head_dim);
  const double span = static_cast<double>(chunk > 0 ? std::min(chunk, s.len) : s.len);
  double features = 1;
  for (int64_t i = 0; i < s.degree; ++i) features *= (D + static_cast<double>(i)) / static_cast<double>(i + 1);
  const double state = chunk > 0 ? features * D * (1 + 1.0 / static_cast<double>(s.group)) : 0;
  const double query_bytes = tokens * D * static_cast<double>(element_bytes);
  const double key_bytes = query_bytes / static_cast<double>(s.group);
  work.forward_work = {tokens * (2 * span * D + 2 * state), 2 * query_bytes + 2 * key_bytes};
  work.backward_work = {tokens * (5 * span * D + 4 * state), 4 * query_bytes + 4 * key_bytes};
}

// One of LibTorch's scaled_dot_product_attention implementations alone; the previous choice comes back at the end.
class OnlySoftmax {
 public:
  explicit OnlySoftmax(Attention attention) {
    context_.setSDPUseCuDNN(attention == Attention::kCudnn);
    context_.setSDPUseFlash(attention == Attention::kFlash);
    context_.setSDPUseMemEfficient(false);
    context_.setSDPUseMath(false);
  }
  ~OnlySoftmax() {
    context_.setSDPUseCuDNN(cudnn_);
    context_.setSDPUseFlash(flash_);
    context_.setSDPUseMemEfficient(memory_);
    context_.setSDPUseMath(math_);
  }
  OnlySoftmax(const OnlySoftmax&) = delete;
  OnlySoftmax& operator=(const OnlySoftmax&) = delete;

 private:
  at::Context& context_ = at::globalContext();
  bool cudnn_ = context_.userEnabledCuDNNSDP(), flash_ = context_.userEnabledFlashSDP();
  bool memory_ = context_.userEnabledMemEfficientSDP(), math_ = context_.userEnabledMathSDP();
};

}  // namespace

const char* attention_name(Attention attention) {
  return attention == Attention::kPower ? "power" : attention == Attention::kCudnn ? "softmax cuDNN" : "softmax flash";
}

at::TensorOptions workload_options(at::Device device) {
  return at::TensorOptions().dtype(device.is_cuda() ? at::kBFloat16 : at::kFloat).device(device);
}

Workload make_workload(const OperatorShape& s, Attention attention, bool gated, std::optional<int64_t> chunk_size,
                       at::Device device) {
  const at::TensorOptions options = workload_options(device);
  const double size = 1 / std::sqrt(static_cast<double>(s.head_dim));
  const at::Tensor q = (at::randn({s.batch, s.len, s.heads * s.group, s.head_dim}, options) * size).requires_grad_();
  const at::Tensor k = (at::randn({s.batch, s.len, s.heads, s.head_dim}, options) * size).requires_grad_();
  const at::Tensor v = (at::randn({s.batch, s.len, s.heads, s.head_dim}, options) * size).requires_grad_();
  Workload work;
  work.inputs = {q, k, v};
  work.dy = at::randn_like(q).detach();
  work.what = attention_name(attention);
  if (attention != Attention::kPower) {
    count_work(work, s, 0, q.element_size());
    work.dy = work.dy.transpose(1, 2);
    work.forward = [=, grouped = s.group > 1] {
      const OnlySoftmax choice(attention);
      return at::scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), {}, 0.0,
                                              /*is_causal=*/true, std::nullopt, grouped);
    };
    return work;
  }
  const int64_t chunk = chunk_of(s, chunk_size, q);
  work.what += chunk == ops::kQuadraticForm ? " quadratic" : str(" chunk ", chunk);
  count_work(work, s, chunk, q.element_size());
  ops::OptTensor log_g;
  if (gated) {
    const at::TensorOptions wide = options.dtype(at::kFloat);
    log_g = at::log_sigmoid(6.906768 + at::randn({s.batch, s.len, s.heads}, wide)).requires_grad_();
    work.inputs.push_back(*log_g);
  }
  work.forward = [=, degree = s.degree] {
    return std::get<0>(ops::power_attention(q, k, v, log_g, {}, {}, degree, {}, chunk));
  };
  return work;
}

}  // namespace power::bench
