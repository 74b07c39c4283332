#pragma once

#include "kernels/power_attention_float32/args.h"

// The launchers. Templates are instantiated in instantiate/ for supported.h's list.
namespace power::kernels::float32 {

// y, `inverse` and l, to which a state has contributed before (run_state_rows).
template <int kDim>
void run_forward(Args args, void* stream);
// dq (likewise) and row_dot; needs row_weight and delta, and makes delta more exact for what follows.
template <int kDim>
void run_backward_dq(Args args, void* stream);
// dk, dv (likewise), key_dot and key_state_dot.
template <int kDim>
void run_backward_dkdv(Args args, void* stream);

// Sums over each chunk's keys (x = k, u = v), or query rows (x = q, u = dY'), of weight * phi(x) u^T.
struct ChunkSumsArgs {
  Args call;
  View x{}, u{};
  States sums{};  // written, of chunks first_chunk..
  bool of_queries = false;
  int first_chunk = 0;
  float factor = 1.0f;   // of the weights
  FastDivisor slices{};  // set by the launcher
};
template <int kDim>
void run_chunk_sums(ChunkSumsArgs args, int chunks, void* stream);

// Products of rows with the state of their chunk, and their gradients.
struct StateRowsArgs {
  Args call;
  View x{};
  View u{};                  // for dx only
  View out{};                // written: factor * gate * phi(x) S; not asked for where data is null
  View dx{};                 // written: dx_factor * gate * d phi(x) (S u + w z); likewise
  float* key_out = nullptr;  // written where not null: factor * gate * phi(x) z of each row
  float* dx_dot = nullptr;   // likewise: x.dx / p
  States states{};
  bool of_queries = false;
  int first_chunk = 0;
  float factor = 1.0f, dx_factor = 1.0f;
  FastDivisor tiles{};  // set by the launcher
};
template <int kDim>
void run_state_rows(StateRowsArgs args, int chunks, void* stream);

// Shared memory of a block, of the kernel that takes most.
template <int kDim>
size_t most_shared_bytes();

// features from feature_count, head_dim and degree.
void run_features(const Args& args, void* stream);
// key_max from k, then row_scale from q; degree > 2.
void run_row_scales(const Args& args, void* stream);
// row_weight, delta and (layer) dy_rows from y, dy, r and the gates.
void run_backward_rows(const Args& args, float* dy_rows, void* stream);
// states from the chunks' sums to the state before each chunk.
void run_state_scan(const Args& args, const OutsideStates& outside, void* stream);
// dstates from the chunks' sums to the gradient of the state after each chunk; state_dot.
void run_dstate_scan(const Args& args, const OutsideStates& outside, void* stream);
// Parts of state_dot a chunk.
int state_dot_parts(int feature_count, int head_dim);

}  // namespace power::kernels::float32
