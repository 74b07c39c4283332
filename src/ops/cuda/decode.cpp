#include "kernels/power_attention/decode.h"

#include <ATen/ATen.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <algorithm>
#include <limits>

#include "ops/check_argument.h"
#include "ops/cuda/kernel_tensors.h"
#include "ops/decode.h"
#include "ops/dispatch.h"
#include "ops/symmetric_power.h"

// CUDA key of decoding: the kernels of kernels/power_attention/decode.h.
namespace power::ops {
namespace {

// As the kernels count; what does not fit an int they refuse as too large.
int small(int64_t x) { return static_cast<int>(std::clamp<int64_t>(x, -1, std::numeric_limits<int>::max())); }

kernels::DecodeShape record_shape(int64_t head_dim, int64_t degree, int64_t window) {
  kernels::DecodeShape shape;
  shape.batch = shape.kv_heads = 1;
  shape.head_dim = small(head_dim);
  shape.degree = small(degree);
  shape.window = small(window);
  return shape;
}

// The shape of a cache (B,H,bytes), checked.
kernels::DecodeShape cache_shape(const at::Tensor& cache, int64_t head_dim, int64_t degree, int64_t window) {
  const int64_t bytes = decode_record_bytes(head_dim, degree, window);
  check_argument(
      cache.dim() == 3 && cache.size(2) == bytes && cache.scalar_type() == at::kByte && cache.is_contiguous(),
      "cache must be contiguous uint8 (B,H,", bytes, "), found ", cache.scalar_type(), " ", cache.sizes(),
      "; make it with decode_cache of the same head_dim, degree and window");
  kernels::DecodeShape shape = record_shape(head_dim, degree, window);
  shape.batch = small(cache.size(0));
  shape.kv_heads = small(cache.size(1));
  return shape;
}

int multiprocessors(const at::Tensor& t) {
  int count = 0;
  C10_CUDA_CHECK(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, t.device().index()));
  return count;
}

}  // namespace

std::string decode_unsupported(int64_t head_dim, int64_t degree, int64_t window) {
  const char* reason = kernels::decode_unsupported_reason(record_shape(head_dim, degree, window), 1);
  return reason == nullptr ? "" : reason;
}

int64_t decode_record_bytes(int64_t head_dim, int64_t degree, int64_t window) {
  const std::string reason = decode_unsupported(head_dim, degree, window);
  check_argument(reason.empty(), "decode_cache: ", reason);
  return static_cast<int64_t>(kernels::decode_record_bytes(record_shape(head_dim, degree, window)));
}

namespace cuda {
namespace {

at::Tensor decode_step(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const OptTensor& log_g,
                       at::Tensor& cache, int64_t degree, OptDouble scale, int64_t window, std::string_view normalize) {
  const Problem p = check_problem(q, k, v, log_g, {}, {}, degree, scale, 0, std::string(normalize), false);
  check_argument(p.query_len == p.key_len, "decode_step: q has ", p.query_len, " new tokens and k ", p.key_len,
                 "; the cache holds the earlier keys");
  check_argument(decode_serves(q, k, v, degree, window), "decode_step: found dtype ", q.scalar_type(), ", head dims ",
                 p.head_dim, " and ", p.value_dim, "; supported: bfloat16 and float16, head dims alike. ",
                 decode_unsupported(p.head_dim, degree, window), " (power_attention_step serves the rest)");
  kernels::DecodeParams params;
  params.shape = cache_shape(cache, p.head_dim, degree, window);
  check_argument(cache.device() == q.device() && cache.size(0) == p.batch && cache.size(1) == p.heads,
                 "decode_step: the cache is ", cache.sizes(), " on ", cache.device(), " and k ", k.sizes(), " on ",
                 k.device(), "; batch, heads and device must agree");
  const c10::cuda::CUDAGuard device(q.device());
  const at::Tensor q_in = readable(q), k_in = readable(k), v_in = readable(v);
  const at::Tensor gates = log_g.has_value() ? log_g->to(at::kFloat) : at::Tensor();
  const at::Tensor y = at::empty({p.batch, p.query_len, p.query_heads, p.head_dim}, q_in.options());
  params.shape.group = small(p.group());
  params.scale = p.scale;
  params.normalize = kernel_normalize(p.normalize);
  params.cache = cache.data_ptr();
  params.stream = c10::cuda::getCurrentCUDAStream().stream();
  const int64_t piece = std::min(window, p.query_len);  // a launch takes at most a window
  params.splits = kernels::decode_splits(params.shape, small(piece), multiprocessors(q));
  const at::Tensor scratch = workspace(kernels::decode_workspace_bytes(params.shape, small(piece), params.splits), q);
  params.workspace = scratch.data_ptr();
  for (int64_t first = 0; first < p.query_len; first += piece) {
    const int64_t count = std::min(piece, p.query_len - first);
    params.query_len = small(count);
    params.q = view(q_in.narrow(1, first, count));
    params.k = view(k_in.narrow(1, first, count));
    params.v = view(v_in.narrow(1, first, count));
    params.y = view(y.narrow(1, first, count));
    if (gates.defined()) params.log_g = gate_view(gates.narrow(1, first, count));
    kernels::power_attention_decode(params);
  }
  return y.to(q.scalar_type());
}

kernels::DecodeStateParams state_params(const at::Tensor& cache, const at::Tensor& state, const at::Tensor& key_sum,
                                        int64_t degree, int64_t window) {
  kernels::DecodeStateParams params;
  params.shape = cache_shape(cache, state.size(3), degree, window);
  params.cache = cache.data_ptr();
  params.state = state.data_ptr<float>();
  params.key_sum = key_sum.data_ptr<float>();
  params.stream = c10::cuda::getCurrentCUDAStream().stream();
  return params;
}

void decode_import(const at::Tensor& state, const at::Tensor& key_sum, at::Tensor& cache, int64_t degree,
                   int64_t window) {
  const bool shapes = state.dim() == 4 && key_sum.dim() == 3 && cache.dim() == 3 &&
                      state.sizes().slice(0, 3) == key_sum.sizes() &&
                      state.sizes().slice(0, 2) == cache.sizes().slice(0, 2);
  check_argument(
      shapes && state.size(2) == state_dim(state.size(3), degree),
      "decode_import: state must be (B,H,F,D), key_sum (B,H,F), cache (B,H,bytes), F the state rows of head dim D; "
      "found ",
      state.sizes(), ", ", key_sum.sizes(), ", ", cache.sizes());
  for (const at::Tensor* t : {&state, &key_sum}) {
    check_argument(t->scalar_type() == at::kFloat && t->device() == cache.device(),
                   "decode_import: states must be float32 on ", cache.device(), ", found ", t->scalar_type(), " on ",
                   t->device());
  }
  const c10::cuda::CUDAGuard device(cache.device());
  const at::Tensor state_in = state.contiguous(), key_sum_in = key_sum.contiguous();
  kernels::decode_import_state(state_params(cache, state_in, key_sum_in, degree, window));
}

Tensor2 decode_export(at::Tensor& cache, int64_t head_dim, int64_t degree, int64_t window) {
  cache_shape(cache, head_dim, degree, window);  // before its sizes are used
  const c10::cuda::CUDAGuard device(cache.device());
  const at::TensorOptions options = cache.options().dtype(at::kFloat);
  const int64_t rows = state_dim(head_dim, degree);
  const at::Tensor state = at::empty({cache.size(0), cache.size(1), rows, head_dim}, options);
  const at::Tensor key_sum = at::empty({cache.size(0), cache.size(1), rows}, options);
  kernels::decode_export_state(state_params(cache, state, key_sum, degree, window));
  return {state, key_sum};
}

}  // namespace

TORCH_LIBRARY_IMPL(power_attention, CUDA, m) {
  m.impl("decode_step", decode_step);
  m.impl("decode_import", decode_import);
  m.impl("decode_export", decode_export);
}

}  // namespace cuda
}  // namespace power::ops
