#include "model/cross_entropy.h"

#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

namespace power::model {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Bytes of one chunk's float32 logits: on the CPU about a last-level cache, on CUDA enough rows to fill the device.
constexpr int64_t kChunkBytesCpu = int64_t{8} << 20;
constexpr int64_t kChunkBytesCuda = int64_t{1} << 30;

// float16 only: gradients of logits are probabilities, of which a large vocabulary has many below float16's smallest
// number (6e-8). They are held times this power of two.
double gradient_scale(torch::Dtype compute) { return compute == torch::kFloat16 ? 256.0 : 1.0; }

int64_t default_rows(const Tensor& hidden, int64_t vocab_size) {
  const int64_t bytes = hidden.is_cuda() ? kChunkBytesCuda : kChunkBytesCpu;
  return std::max<int64_t>(64, bytes / (4 * vocab_size) / 64 * 64);
}

// a (n,C) @ b (C,V) in `dtype`, the sums not rounded to the operands' dtype where the device's library can.
Tensor full_product(const Tensor& a, const Tensor& b, torch::Dtype dtype) {
  if (a.scalar_type() == dtype) return at::mm(a, b);
  if (a.is_cuda() && dtype == torch::kFloat32) return at::mm(a, b, torch::kFloat32);
  return at::mm(a, b).to(dtype);
}

// dweight (V,C) += alpha * dlogits^T (V,n) @ hidden (n,C), with dlogits and hidden in the compute dtype.
void add_weight_gradient(Tensor& dweight, const Tensor& dlogits, const Tensor& hidden, double alpha) {
  const Tensor left = dlogits.t();
  if (dlogits.scalar_type() == dweight.scalar_type()) {
    dweight.addmm_(left, hidden, 1, alpha);
  } else if (dweight.is_cuda() && dweight.scalar_type() == torch::kFloat32) {
    at::addmm_out(dweight, dweight, left, hidden, torch::kFloat32, 1, alpha);
  } else {
    dweight.add_(at::mm(left, hidden), alpha);
  }
}

class CrossEntropySum : public torch::autograd::Function<CrossEntropySum> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& hidden, const Tensor& weight, const Tensor& cast,
                        const Tensor& targets, int64_t rows, bool with_gradient) {
    const auto dtype = hidden.scalar_type(), compute = cast.scalar_type();
    const double scale = gradient_scale(compute);
    Tensor loss = at::zeros({}, hidden.options());
    Tensor dhidden, dweight;
    if (with_gradient) {
      dhidden = at::empty(hidden.sizes(), hidden.options().dtype(compute));
      dweight = at::zeros(weight.sizes(), weight.options());
    }
    for (int64_t begin = 0; begin < hidden.size(0); begin += rows) {
      const int64_t count = std::min(rows, hidden.size(0) - begin);
      const Tensor h = hidden.narrow(0, begin, count).to(compute);
      const Tensor target = targets.narrow(0, begin, count).unsqueeze(1);
      Tensor log_p = at::_log_softmax(full_product(h, cast.t(), dtype), 1, false);
      loss.sub_(log_p.gather(1, target).sum());
      if (!with_gradient) continue;
      // d loss / d logits = softmax - onehot(target); the one is subtracted before the rounding to the compute dtype
      Tensor dlogits = log_p.exp_();
      dlogits.scatter_(1, target, dlogits.gather(1, target).sub_(1));
      if (scale != 1) dlogits.mul_(scale);
      dlogits = dlogits.to(compute);
      Tensor dh = dhidden.narrow(0, begin, count);
      at::mm_out(dh, dlogits, cast);
      add_weight_gradient(dweight, dlogits, h, 1 / scale);
    }
    if (with_gradient) ctx->save_for_backward({dhidden, dweight});
    ctx->saved_data["scale"] = scale;
    return loss;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    const Tensor &dhidden = saved[0], &dweight = saved[1], &dloss = grads[0];
    const double scale = ctx->saved_data["scale"].toDouble();
    return {dhidden * (dloss / scale).view({1, 1}), dweight * dloss, Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

}  // namespace

Tensor cross_entropy_sum(const Tensor& hidden, const Affine& head, const Tensor& targets, int64_t rows_per_chunk) {
  const bool with_gradient = torch::GradMode::is_enabled() && (hidden.requires_grad() || head.weight.requires_grad());
  const int64_t rows = rows_per_chunk > 0 ? rows_per_chunk : default_rows(hidden, head.weight.size(0));
  return CrossEntropySum::apply(hidden, head.weight, head.cast, targets, rows, with_gradient);
}

}  // namespace power::model
