#include "kernels/power_attention_float32/instantiate/kernels.h"

namespace power::kernels::float32 {

POWER_INSTANTIATE(128)

}  // namespace power::kernels::float32
