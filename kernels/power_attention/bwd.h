#pragma once

#include "kernels/power_attention/args.h"

namespace power::kernels {

// dq and (q.dq / p) of each row; needs row_weight and delta, and makes delta more exact for dkdv.
template <int kDim, int kDegree>
void run_power_attention_bwd_dq(AttentionArgs args, void* stream);

// dk, dv and (k.dk / p) of each key.
template <int kDim, int kDegree>
void run_power_attention_bwd_dkdv(AttentionArgs args, void* stream);

}  // namespace power::kernels
