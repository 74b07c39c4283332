// The kernels of supported.h's list, compiled for the emulator.
#include "kernels/power_attention/bwd.cuh"
#include "kernels/power_attention/fwd.cuh"
#include "kernels/power_attention/rows.cuh"

namespace power::kernels {

#define POWER_INSTANTIATE(head_dim, degree)                                                \
  template void run_power_attention_fwd<head_dim, degree>(const AttentionArgs&, void*);    \
  template void run_power_attention_bwd_dq<head_dim, degree>(const AttentionArgs&, void*); \
  template void run_power_attention_bwd_dkdv<head_dim, degree>(const AttentionArgs&, void*);
#define POWER_INSTANTIATE_DEGREES(head_dim) POWER_ATTENTION_DEGREES(POWER_INSTANTIATE, head_dim)
POWER_ATTENTION_HEAD_DIMS(POWER_INSTANTIATE_DEGREES)

}  // namespace power::kernels
