#pragma once

#include <torch/types.h>

#include <cstdint>

#include "model/gpt.h"
#include "model/heads.h"

namespace power::model {

// Causal attention over a whole sequence: y (B,T,R*H,D) in the dtype of q. `dropout` acts on softmax weights only.
torch::Tensor attend(const AttentionInputs& in, AttentionKernel kernel, const GptOptions& options, double dropout);

// The same for new tokens that follow those in `past`, which is extended by them. `position` tokens came before.
torch::Tensor attend_step(const AttentionInputs& in, AttentionKernel kernel, const GptOptions& options,
                          DecodeState::Layer& past, int64_t position);

}  // namespace power::model
