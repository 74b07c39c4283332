#pragma once

#include "ops/composed/chunk_batch.h"

// The quadratic form inside each block: all pairs of a query and a key not after it, in tiles of query tokens, so that
// no more than (tile x keys) scores exist at a time. Scores here are (q.k)^p without the scale.
namespace power::ops {

// Adds sum_j w_ij [v_j, 1] to out (G, queries*R, E+1) real.
void intra_forward(const ChunkBatch& batch, at::Tensor& out);

// dn (G, queries*R, E) and dl (G, queries*R): gradients of numerator and denominator, real.
void intra_backward(const ChunkBatch& batch, const at::Tensor& dn, const at::Tensor& dl, ChunkGradients& gradients);

}  // namespace power::ops
