// The kernels of supported.h's list, compiled for the emulator.
#include "kernels/power_attention/bwd.cuh"
#include "kernels/power_attention/chunk_sums.cuh"
#include "kernels/power_attention/fwd.cuh"
#include "kernels/power_attention/rows.cuh"
#include "kernels/power_attention/state_scan.cuh"

namespace power::kernels {

#define POWER_INSTANTIATE(head_dim, degree)                                         \
  template void run_power_attention_fwd<head_dim, degree>(AttentionArgs, void*);    \
  template void run_power_attention_bwd_dq<head_dim, degree>(AttentionArgs, void*); \
  template void run_power_attention_bwd_dkdv<head_dim, degree>(AttentionArgs, void*);
#define POWER_INSTANTIATE_DEGREES(head_dim) POWER_ATTENTION_DEGREES(POWER_INSTANTIATE, head_dim)
POWER_ATTENTION_HEAD_DIMS(POWER_INSTANTIATE_DEGREES)

#define POWER_INSTANTIATE_STATES(head_dim, degree)                                                  \
  template void run_chunk_states<head_dim, degree>(const AttentionArgs&, int, int, void*);          \
  template void run_chunk_dstates<head_dim, degree>(const AttentionArgs&, int, int, void*);         \
  template void run_state_scan<head_dim, degree>(const AttentionArgs&, const PublicStates&, void*); \
  template void run_dstate_scan<head_dim, degree>(const AttentionArgs&, const PublicStates&, void*);
#define POWER_INSTANTIATE_STATE_DEGREES(head_dim) POWER_ATTENTION_STATE_DEGREES(POWER_INSTANTIATE_STATES, head_dim)
POWER_ATTENTION_HEAD_DIMS(POWER_INSTANTIATE_STATE_DEGREES)

}  // namespace power::kernels
