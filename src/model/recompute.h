#pragma once

#include <torch/types.h>

#include <functional>
#include <vector>

namespace power::model {

using TensorFunction = std::function<torch::Tensor(const std::vector<torch::Tensor>&)>;

// function(inputs) with only the inputs kept for the backward pass, which runs the function again. Every tensor that
// needs a gradient must come in through `inputs`, all of them defined; what else the function captures must not change
// until then. `random`: the function draws random numbers, and draws the same ones again.
torch::Tensor recompute(const TensorFunction& function, const std::vector<torch::Tensor>& inputs, bool random);

}  // namespace power::model
