#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

// The symmetric power embedding phi, layout sym-lex/1: one feature for each index tuple i1 <= i2 <= ... <= ip in
// lexicographic order, phi(x)[i1..ip] = x[i1] ... x[ip]. The state side carries the multiplicity m of the tuple (its
// number of distinct orderings), so that <phi(q), m phi(k)> = (q.k)^p.
namespace power::ops {

// F = C(D+p-1, p), the number of features. Throws where it does not fit into 62 bits.
int64_t state_dim(int64_t head_dim, int64_t degree);

// x (..., D) -> phi(x) (..., F), same dtype.
at::Tensor phi(const at::Tensor& x, int64_t degree);

// Multiplicity of each feature, (F, 1), in `options`' dtype and device.
at::Tensor multiplicity(int64_t head_dim, int64_t degree, const at::TensorOptions& options);

// The gradient of phi(x).S with respect to x as a matrix over phi_{p-1}(x): for S (G,F,C) returns (G, F_{p-1}*C, D)
// with
//   d/dx_a sum_{f,c} phi(x)_f S_fc u_c = sum_{b,c} phi_{p-1}(x)_b u_c out[(b,c),a],  out[(b,c),a] = (b_a + 1) S[b u
//   {a}, c].
at::Tensor state_gradient_matrix(const at::Tensor& state, int64_t head_dim, int64_t degree);

}  // namespace power::ops
