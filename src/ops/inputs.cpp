#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <torch/library.h>

#include <cmath>

#include "ops/dispatch.h"

// Inputs of the usual size for tests and measurements, the same on every device.
namespace power::ops {
namespace {

Tensor4 make_inputs(int64_t batch, int64_t seq_len, int64_t heads, int64_t head_dim, int64_t group,
                    at::ScalarType dtype, bool gated, int64_t seed, std::optional<at::Device> device) {
  const at::Generator generator = at::detail::createCPUGenerator(static_cast<uint64_t>(seed));
  const at::Device where = device.value_or(at::Device(at::kCPU));
  const at::TensorOptions wide = at::TensorOptions().dtype(at::kDouble).device(at::kCPU);
  const auto normal = [&](at::IntArrayRef sizes) { return at::randn(sizes, generator, wide); };
  const double size = 1.0 / std::sqrt(static_cast<double>(head_dim));
  const at::Tensor q = normal({batch, seq_len, heads * group, head_dim}).mul_(size).to(where, dtype);
  const at::Tensor k = normal({batch, seq_len, heads, head_dim}).mul_(size).to(where, dtype);
  const at::Tensor v = normal({batch, seq_len, heads, head_dim}).mul_(size).to(where, dtype);
  const at::ScalarType real = dtype == at::kDouble ? at::kDouble : at::kFloat;
  if (!gated) return {q, k, v, at::empty({0}, q.options().dtype(real))};
  return {q, k, v, at::log_sigmoid(6.906768 + normal({batch, seq_len, heads})).to(where, real)};
}

}  // namespace

TORCH_LIBRARY_IMPL(power_attention, CompositeExplicitAutograd, m) { m.impl("make_inputs", make_inputs); }

}  // namespace power::ops
