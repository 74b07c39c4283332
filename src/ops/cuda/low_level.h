#pragma once

#include "ops/dispatch.h"

// The low-level operators of ops.h on CUDA: the float32 kernels where they serve (inputs of half precision converted),
// else the composed forms.
namespace power::ops::cuda {

AttentionSignature attention;
AttentionBackwardSignature attention_backward;
UpdateStateSignature update_state;
UpdateStateBackwardSignature update_state_backward;
DiscumsumSignature discumsum;
DiscumsumBackwardSignature discumsum_backward;
QueryStateSignature query_state;
QueryStateBackwardSignature query_state_backward;

}  // namespace power::ops::cuda
