#pragma once

#include <ATen/ATen.h>

#include "kernels/power_attention/power_attention.h"
#include "ops/problem.h"

// Tensors as the kernels of kernels/power_attention read them.
namespace power::ops::cuda {

// Of this dtype, elements contiguous, rows on 16-byte boundaries (else a copy).
inline at::Tensor readable(const at::Tensor& x, at::ScalarType dtype = at::kBFloat16) {
  const at::Tensor t = x.to(dtype);
  const int64_t alignment = 16 / t.element_size();
  bool aligned = t.stride(3) == 1 && reinterpret_cast<uintptr_t>(t.data_ptr()) % 16 == 0;
  for (int64_t dim = 0; dim < 3; ++dim) aligned = aligned && t.stride(dim) % alignment == 0;
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

inline kernels::AttentionShape shape_of(const Problem& p) {
  kernels::AttentionShape shape;
  shape.batch = static_cast<int>(p.batch);
  shape.query_len = static_cast<int>(p.query_len);
  shape.key_len = static_cast<int>(p.key_len);
  shape.kv_heads = static_cast<int>(p.heads);
  shape.group = static_cast<int>(p.group());
  shape.head_dim = static_cast<int>(p.head_dim);
  shape.degree = static_cast<int>(p.degree);
  shape.scale = p.scale;
  shape.normalize = kernel_normalize(p.normalize);
  shape.chunk = static_cast<int>(p.chunk_size < p.key_len ? p.chunk_size : 0);
  return shape;
}

}  // namespace power::ops::cuda
