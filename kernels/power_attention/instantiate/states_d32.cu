#include "kernels/power_attention/instantiate/states.h"

namespace power::kernels {

POWER_ATTENTION_STATE_DEGREES(POWER_INSTANTIATE_STATES, 32)

}  // namespace power::kernels
