#pragma once

#include "kernels/power_attention/chunk_sums.cuh"
#include "kernels/power_attention/state_scan.cuh"

// The kernels of one entry of POWER_ATTENTION_STATE_DEGREES; used inside namespace power::kernels.
#define POWER_INSTANTIATE_STATES(head_dim, degree)                                                  \
  template void run_chunk_states<head_dim, degree>(const AttentionArgs&, int, int, void*);          \
  template void run_chunk_dstates<head_dim, degree>(const AttentionArgs&, int, int, void*);         \
  template void run_state_scan<head_dim, degree>(const AttentionArgs&, const PublicStates&, void*); \
  template void run_dstate_scan<head_dim, degree>(const AttentionArgs&, const PublicStates&, void*);
