#pragma once

#include <torch/types.h>

#include <functional>

#include "model/gpt.h"
#include "model/heads.h"
#include "model/linear.h"
#include "model/parameters.h"

namespace power::model {

struct BlockAffines {
  Affine ln_1, c_attn, attn_c_proj, ln_2, c_fc, mlp_c_proj;
};

// The parameters of `block`, and its kCastsPerBlock casts beginning at casts[first].
BlockAffines block_affines(const BlockModule& block, const std::vector<torch::Tensor>& casts, size_t first);

using Attend = std::function<torch::Tensor(const AttentionInputs&)>;

// One pre-norm block: x + attn(ln_1 x), then that + mlp(ln_2 of it). x (B,T,C) in the parameters' dtype; the linear
// maps and attention run in the dtype of the casts. `dropout` acts on what enters the residual stream.
torch::Tensor block_forward(const torch::Tensor& x, const BlockAffines& affines, const HeadLayout& heads,
                            const torch::Tensor& rotary, const Attend& attend, double dropout);

// The same, with the activations recomputed in the backward pass.
torch::Tensor block_forward_recomputed(const torch::Tensor& x, const BlockAffines& affines, const HeadLayout& heads,
                                       const torch::Tensor& rotary, const Attend& attend, double dropout, bool random);

}  // namespace power::model
