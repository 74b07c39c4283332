#include "kernels/power_attention/decode.cuh"

namespace power::kernels {

#define POWER_INSTANTIATE(head_dim, degree) template DecodeKernels decode_kernels<head_dim, degree>();
POWER_ATTENTION_DECODE_DEGREES(POWER_INSTANTIATE, 32)

}  // namespace power::kernels
