#pragma once

#include "kernels/power_attention/args.h"

namespace power::kernels {

// What each chunk's keys alone add to the state at the chunk's end, into args.states, for chunks [first, end).
template <int kDim, int kDegree>
void run_chunk_states(const AttentionArgs& args, int first, int end, void* stream);

// What each chunk's query rows alone add to the gradient of the state before the chunk, into args.dstates.
template <int kDim, int kDegree>
void run_chunk_dstates(const AttentionArgs& args, int first, int end, void* stream);

}  // namespace power::kernels
