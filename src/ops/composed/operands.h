#pragma once

#include <ATen/core/Tensor.h>

// Number formats of the composed forms. `real` (float32, or float64) holds scores, accumulators, normalisers and
// states; `operand` is what matrix products read: bfloat16 for half-precision inputs on CUDA (products accumulate in
// float32), else the same as real. Half-precision inputs on the CPU are computed in float32 throughout.
//
// The normaliser rides along as one more column of v and of the state. So that it keeps float32 precision in bfloat16
// operands, it is split into a high and a low part there, on both sides of a product:
//   right(x, w) = [x, w_hi, w_hi, w_lo, 0 x 5]     v and gates, state and key sum
//   left(x, w)  = [x, w_hi, w_lo, w_hi, 0 x 5]     gradients of numerator and denominator
// left.right^T = x.x' + w_hi w_hi' + w_lo w_hi' + w_hi w_lo'. In real operands both are [x, w].
namespace power::ops {

struct Precision {
  at::ScalarType real;
  at::ScalarType operand;
  bool split() const { return real != operand; }

  static Precision of(const at::Tensor& input);
};

at::Tensor left(const at::Tensor& x, const at::Tensor& w, const Precision& precision);  // x (...,C), w (...)
at::Tensor right(const at::Tensor& x, const at::Tensor& w, const Precision& precision);
// Products that kept the right (left) operand's columns -> real (..., C+1), the split column summed.
at::Tensor collapse_right(const at::Tensor& product, int64_t columns, const Precision& precision);
at::Tensor collapse_left(const at::Tensor& product, int64_t columns, const Precision& precision);

// a.b of each row, summed on in float64.
at::Tensor row_dot(const at::Tensor& a, const at::Tensor& b);

// Batched matrix product of operands, (G,M,K) x (G,K,N) -> real.
at::Tensor product(const at::Tensor& a, const at::Tensor& b, const Precision& precision);

}  // namespace power::ops
