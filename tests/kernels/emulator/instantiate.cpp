// The kernels of supported.h's list, compiled for the emulator.
#include "kernels/power_attention/bwd_dkdv.cuh"
#include "kernels/power_attention/bwd_dq.cuh"
#include "kernels/power_attention/fwd.cuh"
#include "kernels/power_attention/instantiate/states.h"
#include "kernels/power_attention/rows.cuh"
#include "kernels/power_attention/shared_memory.cuh"

namespace power::kernels {

#define POWER_INSTANTIATE(head_dim, degree)                                         \
  template void run_power_attention_fwd<head_dim, degree>(AttentionArgs, void*);    \
  template void run_power_attention_bwd_dq<head_dim, degree>(AttentionArgs, void*); \
  template void run_power_attention_bwd_dkdv<head_dim, degree>(AttentionArgs, void*);
#define POWER_INSTANTIATE_DEGREES(head_dim) POWER_ATTENTION_DEGREES(POWER_INSTANTIATE, head_dim)
POWER_ATTENTION_HEAD_DIMS(POWER_INSTANTIATE_DEGREES)

#define POWER_INSTANTIATE_STATE_DEGREES(head_dim) POWER_ATTENTION_STATE_DEGREES(POWER_INSTANTIATE_STATES, head_dim)
POWER_ATTENTION_HEAD_DIMS(POWER_INSTANTIATE_STATE_DEGREES)

#define POWER_INSTANTIATE_SHARED(head_dim) template size_t power_attention_shared_bytes<head_dim>(bool);
POWER_ATTENTION_HEAD_DIMS(POWER_INSTANTIATE_SHARED)

}  // namespace power::kernels
