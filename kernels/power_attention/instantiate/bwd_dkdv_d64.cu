#include "kernels/power_attention/bwd_dkdv.cuh"

namespace power::kernels {

#define POWER_INSTANTIATE(head_dim, degree) \
  template void run_power_attention_bwd_dkdv<head_dim, degree>(AttentionArgs, void*);
POWER_ATTENTION_DEGREES(POWER_INSTANTIATE, 64)

}  // namespace power::kernels
