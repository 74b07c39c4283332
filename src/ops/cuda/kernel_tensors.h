#pragma once

#include <ATen/ATen.h>

#include "kernels/power_attention/power_attention.h"
#include "ops/problem.h"

// Tensors as the kernels of kernels/power_attention read them.
namespace power::ops::cuda {

// bf16, elements contiguous, rows on 16-byte boundaries (else a copy).
inline at::Tensor readable(const at::Tensor& x) {
  constexpr int64_t kAlignment = 8;  // elements: 16 bytes
  const at::Tensor t = x.to(at::kBFloat16);
  bool aligned = t.stride(3) == 1 && reinterpret_cast<uintptr_t>(t.data_ptr()) % 16 == 0;
  for (int64_t dim = 0; dim < 3; ++dim) aligned = aligned && t.stride(dim) % kAlignment == 0;
  return aligned ? t : t.contiguous();
}

inline kernels::TensorView view(const at::Tensor& t) { return {t.data_ptr(), t.stride(0), t.stride(1), t.stride(2)}; }

inline kernels::GateView gate_view(const at::Tensor& t) {
  if (!t.defined()) return {};
  return {t.data_ptr<float>(), t.stride(0), t.stride(1), t.stride(2)};
}

inline at::Tensor workspace(size_t bytes, const at::Tensor& like) {
  return at::empty({static_cast<int64_t>(bytes)}, like.options().dtype(at::kByte));
}

inline kernels::Normalize kernel_normalize(Normalize normalize) {
  return normalize == Normalize::kSum     ? kernels::Normalize::kSum
         : normalize == Normalize::kLayer ? kernels::Normalize::kLayer
                                          : kernels::Normalize::kNone;
}

}  // namespace power::ops::cuda
