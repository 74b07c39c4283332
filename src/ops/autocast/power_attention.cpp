#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>
#include <torch/library.h>

#include "ops/dispatch.h"

// Autocast: q, k and v go to the region's half type, together; gates and states stay in float32.
namespace power::ops::autocast {
namespace {

OptTensor keep_float32(const OptTensor& t) {
  if (!t.has_value() || t->scalar_type() == at::kDouble) return t;
  return t->to(at::kFloat);
}

template <c10::DeviceType device>
Tensor3 power_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const OptTensor& log_g,
                        const OptTensor& initial_state, const OptTensor& initial_key_sum, int64_t degree,
                        OptDouble scale, OptInt chunk_size, std::string_view normalize, bool return_state) {
  c10::impl::ExcludeDispatchKeyGuard no_autocast(at::autocast::get_autocast_dispatch_key_from_device_type(device));
  static const auto op = find_op<PowerAttentionSignature>("power_attention::power_attention");
  const at::ScalarType half = at::autocast::get_autocast_dtype(device);
  const auto cast = [&](const at::Tensor& t) { return at::autocast::cached_cast(half, t, device); };
  return op.call(cast(q), cast(k), cast(v), keep_float32(log_g), keep_float32(initial_state),
                 keep_float32(initial_key_sum), degree, scale, chunk_size, normalize, return_state);
}

}  // namespace

TORCH_LIBRARY_IMPL(power_attention, AutocastCPU, m) {
  m.impl("power_attention", power_attention<c10::DeviceType::CPU>);
}
TORCH_LIBRARY_IMPL(power_attention, AutocastCUDA, m) {
  m.impl("power_attention", power_attention<c10::DeviceType::CUDA>);
}

}  // namespace power::ops::autocast
