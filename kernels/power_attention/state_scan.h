#pragma once

#include "kernels/power_attention/args.h"
#include "kernels/power_attention/state_shape.h"

namespace power::kernels {

// States at the interface, layout sym-lex/1 (docs/operator.md), contiguous; null where there is none.
struct PublicStates {
  const float *in_state = nullptr, *in_keys = nullptr;  // before the first key; backward: gradient after the last one
  float *out_state = nullptr, *out_keys = nullptr;      // after the last key; backward: gradient before the first one
};

// args.states from the chunks' sums to the state before each chunk.
template <int kDim, int kDegree>
void run_state_scan(const AttentionArgs& args, const PublicStates& outside, void* stream);

// args.dstates from the chunks' sums to the gradient of the state after each chunk; state_dot.
template <int kDim, int kDegree>
void run_dstate_scan(const AttentionArgs& args, const PublicStates& outside, void* stream);

inline constexpr int kPieceThreads = 256;
inline constexpr int kPieceElements = 8;  // of a state, to a thread

POWER_HOST_DEVICE constexpr int state_pieces(int dim, int head_dim, int degree) {
  return static_cast<int>((state_tiles(dim, head_dim, degree) * block_elements(dim) + key_products(dim, degree)) /
                          kPieceElements);
}

// Parts of state_dot a chunk: one a warp.
POWER_HOST_DEVICE constexpr int state_dot_parts(int dim, int head_dim, int degree) {
  return (state_pieces(dim, head_dim, degree) + kPieceThreads - 1) / kPieceThreads * (kPieceThreads / 32);
}

}  // namespace power::kernels
