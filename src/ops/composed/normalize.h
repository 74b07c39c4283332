#pragma once

#include "ops/composed/chunk_batch.h"
#include "ops/composed/operands.h"
#include "ops/problem.h"

// From numerator and denominator to y, and back. Rows are those of a block; everything real.
namespace power::ops {

// Scores are computed from rows of q times a power of two (see row_scaling) and without the scale: weights come out as
// the true ones divided by `factor` (rows or one number). `sum` does not notice, `layer` only its sign.
struct Normalized {
  at::Tensor y;  // (..., rows, E)
  at::Tensor r;  // (..., rows): 1/l, 1/root or 1; 0 where l or the root is 0
};
Normalized normalize_rows(const at::Tensor& sums, Normalize kind, const at::Tensor& factor);  // sums (..., rows, E+1)

// 1/x, and 0 where x is 0.
at::Tensor reciprocal_or_zero(const at::Tensor& x);

struct RowGradients {
  at::Tensor dn, dl;  // of the numerator (..., rows, E) and the denominator (..., rows)
};
// dn comes out as products will read it, rounded to the operand's dtype, and dl is derived from that: where a row sees
// one key only, the two must cancel exactly, however small its score.
RowGradients normalize_rows_backward(const at::Tensor& dy, const at::Tensor& y, const at::Tensor& r, Normalize kind,
                                     const at::Tensor& factor, const Precision& precision);

// For `sum`, sum_j w_ij dw_ij = q_i.dq_i / p vanishes in exact arithmetic. What is found instead, e_i, is the rounding
// of y in dl and weighs 1 / score in dq and dk: much where a row sees nothing but its own key and their score is small
// (a first token, closed gates). This takes e_i r_i from dw_ii, so that a row's sum shrinks by the share of its own
// key. r (blocks, rows, 1) as from normalize_rows; gradients.q and .k are complete for these rows.
void remove_excess(const ChunkBatch& batch, const at::Tensor& r, ChunkGradients& gradients);

// Powers of two, one per row of q (B,T,HQ,1) float32: max|q_i| * max|k of the head| comes out between 1/4 and 1, so
// that high powers of it neither vanish nor overflow. Exact to apply and to undo.
at::Tensor row_scaling(const at::Tensor& q, const at::Tensor& k);

}  // namespace power::ops
