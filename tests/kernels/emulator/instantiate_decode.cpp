// The decode kernels of supported.h's list, compiled for the emulator.
#include "kernels/power_attention/decode.cuh"

namespace power::kernels {

#define POWER_INSTANTIATE(head_dim, degree) template DecodeKernels decode_kernels<head_dim, degree>();
#define POWER_INSTANTIATE_DEGREES(head_dim) POWER_ATTENTION_DECODE_DEGREES(POWER_INSTANTIATE, head_dim)
POWER_ATTENTION_HEAD_DIMS(POWER_INSTANTIATE_DEGREES)

}  // namespace power::kernels
