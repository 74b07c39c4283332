#pragma once

#include <torch/nn/module.h>

#include <memory>
#include <vector>

#include "model/gpt.h"
#include "model/heads.h"
#include "model/linear.h"

namespace power::model {

HeadLayout head_layout(const GptOptions& options, int64_t layer);
// int(3.5 C), as in the published model.
int64_t mlp_hidden_size(const GptOptions& options);

// "weight" and, where wanted, "bias" under the name of the module.
class AffineModule : public torch::nn::Module {
 public:
  AffineModule(std::vector<int64_t> weight_sizes, bool bias);

  // This affine map with `cast` as its weight in the compute dtype, the weight itself where that is undefined.
  Affine with_cast(const torch::Tensor& cast = {}) const { return {weight, bias, cast.defined() ? cast : weight}; }

  torch::Tensor weight, bias;
};

// Parameters of one block. The four linear maps have a cast each, in this order: c_attn, c_proj, c_fc, c_proj.
inline constexpr int64_t kCastsPerBlock = 4;

class BlockModule : public torch::nn::Module {
 public:
  BlockModule(const GptOptions& options, int64_t layer);

  std::shared_ptr<AffineModule> ln_1, c_attn, attn_c_proj, ln_2, c_fc, mlp_c_proj;
};

// The module "transformer": wte, h.0 ... h.L-1, ln_f.
class Parameters : public torch::nn::Module {
 public:
  explicit Parameters(const GptOptions& options);

  // Draws every parameter anew, in the order of their names in the tree.
  void initialise(const GptOptions& options);
  // Weights of the linear maps in `compute`, first the four of every block, then the head (wte): made in one pass.
  std::vector<torch::Tensor> cast_weights(torch::Dtype compute) const;

  std::shared_ptr<AffineModule> wte, ln_f;
  std::vector<std::shared_ptr<BlockModule>> h;
};

}  // namespace power::model
