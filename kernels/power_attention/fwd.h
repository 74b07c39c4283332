#pragma once

#include "kernels/power_attention/args.h"

namespace power::kernels {

// y, row statistics and (optionally) l of the quadratic form. Instantiated in instantiate/ for supported.h's list.
template <int kDim, int kDegree>
void run_power_attention_fwd(AttentionArgs args, void* stream);

}  // namespace power::kernels
