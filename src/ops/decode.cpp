#include "ops/decode.h"

#include <ATen/ATen.h>
#include <torch/library.h>

#include "ops/check_argument.h"
#include "ops/dispatch.h"

namespace power::ops {
namespace {

at::Tensor decode_cache(int64_t batch, int64_t heads, int64_t head_dim, int64_t degree, int64_t window,
                        std::optional<at::Device> device) {
  check_argument(batch > 0 && heads > 0, "decode_cache: found batch ", batch, " and ", heads,
                 " heads; both must be positive");
  const int64_t bytes = decode_record_bytes(head_dim, degree, window);
  return at::zeros({batch, heads, bytes},
                   at::TensorOptions().dtype(at::kByte).device(device.value_or(at::Device(at::kCUDA))));
}

[[noreturn]] void fail_elsewhere(const char* name, const at::Tensor& t) {
  fail_argument(name, " runs on CUDA only, and the tensors are on ", t.device(),
                "; use power_attention_step, which keeps its state in tensors of its own");
}

at::Tensor step_elsewhere(const at::Tensor& q, const at::Tensor&, const at::Tensor&, const OptTensor&, at::Tensor&,
                          int64_t, OptDouble, int64_t, std::string_view) {
  fail_elsewhere("decode_step", q);
}
void import_elsewhere(const at::Tensor& state, const at::Tensor&, at::Tensor&, int64_t, int64_t) {
  fail_elsewhere("decode_import", state);
}
Tensor2 export_elsewhere(at::Tensor& cache, int64_t, int64_t, int64_t) { fail_elsewhere("decode_export", cache); }

}  // namespace

bool decode_serves(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, int64_t degree, int64_t window) {
  const bool half = q.scalar_type() == at::kBFloat16 || q.scalar_type() == at::kHalf;
  const bool square = q.dim() == 4 && k.dim() == 4 && v.dim() == 4 && v.size(3) == q.size(3);
  return q.is_cuda() && half && square && decode_unsupported(q.size(3), degree, window).empty();
}

at::Tensor decode_with_cache(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const OptTensor& log_g,
                             at::Tensor& cache, int64_t degree, std::optional<double> scale, int64_t window,
                             const std::string& normalize) {
  if (!cache.defined()) {
    static const auto make = find_op<DecodeCacheSignature>("power_attention::decode_cache");
    cache = make.call(q.size(0), k.size(2), q.size(3), degree, window, q.device());
  }
  static const auto step = find_op<DecodeStepSignature>("power_attention::decode_step");
  return step.call(q, k, v, log_g, cache, degree, scale, window, normalize);
}

TORCH_LIBRARY_IMPL(power_attention, CompositeExplicitAutograd, m) {
  m.impl("decode_cache", decode_cache);
  m.impl("decode_step", step_elsewhere);
  m.impl("decode_import", import_elsewhere);
  m.impl("decode_export", export_elsewhere);
}

}  // namespace power::ops
