#pragma once

#include "ops/composed/chunk_batch.h"

// States with their key sum as the last column: (..., F, E+1) real, layout sym-lex/1, multiplicity included, no scale.
namespace power::ops {

// sum_t e^{c_last - c_t} m phi(k_t) [v_t, 1] of each block: (G,F,E+1).
at::Tensor chunk_states(const ChunkBatch& batch);
// Adds the gradients of k, v and log_g through chunk_states; dstate (G,F,E+1).
void chunk_states_backward(const ChunkBatch& batch, const at::Tensor& dstate, ChunkGradients& gradients);

// Adds e^{c_i} phi(q_i).state to out (G, queries*R, E+1); state (G,F,E+1) stands before each block.
void query_state_forward(const ChunkBatch& batch, const at::Tensor& state, at::Tensor& out);
// Adds the gradients of q and log_g, and returns that of state.
at::Tensor query_state_backward(const ChunkBatch& batch, const at::Tensor& state, const at::Tensor& dn,
                                const at::Tensor& dl, ChunkGradients& gradients);

// Discounted cumulative sum over the N chunks of x (M,N,...), in place: x becomes the value before each chunk,
// before_{n+1} = decay_n before_n + x_n from before_0 = initial (zero where undefined); returns the value after the
// last. decay (M,N), undefined: 1.
at::Tensor discounted_sum_(at::Tensor& x, const at::Tensor& decay, const at::Tensor& initial);
// Its transpose, in place: from the gradients of the values before each chunk (and of the last) to those of the x_n;
// returns the gradient of `initial`.
at::Tensor discounted_sum_backward_(at::Tensor& dx, const at::Tensor& decay, const at::Tensor& dlast);

}  // namespace power::ops
