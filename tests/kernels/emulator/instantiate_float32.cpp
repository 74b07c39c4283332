// The float32 kernels of supported.h's list, compiled for the emulator.
#include "kernels/power_attention_float32/discounted_sum.cuh"
#include "kernels/power_attention_float32/instantiate/kernels.h"
#include "kernels/power_attention_float32/rows.cuh"
#include "kernels/power_attention_float32/state_scan.cuh"

namespace power::kernels::float32 {

POWER_ATTENTION_FLOAT32_HEAD_DIMS(POWER_INSTANTIATE)

}  // namespace power::kernels::float32
