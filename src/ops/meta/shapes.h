#pragma once

#include <ATen/ATen.h>

#include <vector>

namespace power::ops::meta {

// Sizes may be symbols (torch.compile with dynamic shapes), so shapes are built from SymInt throughout.
using SymSizes = std::vector<c10::SymInt>;

inline at::ScalarType real_of(const at::Tensor& t) { return t.scalar_type() == at::kDouble ? at::kDouble : at::kFloat; }

inline at::Tensor empty(const SymSizes& sizes, const at::Tensor& like, at::ScalarType dtype) {
  return at::empty_symint(sizes, like.options().dtype(dtype));
}

// Same shape and dtype, contiguous, as the kernels return gradients.
inline at::Tensor gradient_of(const at::Tensor& t) { return at::empty_symint(t.sym_sizes(), t.options()); }

inline at::Tensor gradient_of(const std::optional<at::Tensor>& t, const at::Tensor& like) {
  return t.has_value() ? gradient_of(*t) : empty({0}, like, real_of(like));
}

}  // namespace power::ops::meta
