#include "model/parameters.h"

#include <torch/utils.h>

#include <cmath>

#include "core/str.h"

namespace power::model {

using torch::Tensor;

namespace {

constexpr double kInitStd = 0.02;

}  // namespace

HeadLayout head_layout(const GptOptions& options, int64_t layer) {
  const bool gating = options.gating && attention_of(options, layer) == AttentionKernel::kPower;
  return {options.n_head, options.qhead_ratio, options.head_size, gating};
}

int64_t mlp_hidden_size(const GptOptions& options) {
  return static_cast<int64_t>(3.5 * static_cast<double>(options.n_embd));
}

AffineModule::AffineModule(std::vector<int64_t> weight_sizes, bool with_bias) {
  weight = register_parameter("weight", torch::empty(weight_sizes));
  if (with_bias) bias = register_parameter("bias", torch::empty({weight_sizes[0]}));
}

BlockModule::BlockModule(const GptOptions& options, int64_t layer) {
  const HeadLayout heads = head_layout(options, layer);
  const int64_t C = options.n_embd, hidden = mlp_hidden_size(options);
  const bool bias = options.bias;
  ln_1 = register_module("ln_1", std::make_shared<AffineModule>(std::vector{C}, bias));
  const auto attn = register_module("attn", std::make_shared<torch::nn::Module>());
  c_attn = attn->register_module("c_attn", std::make_shared<AffineModule>(std::vector{heads.rows(), C}, bias));
  attn_c_proj = attn->register_module("c_proj", std::make_shared<AffineModule>(std::vector{C, heads.q_rows()}, bias));
  ln_2 = register_module("ln_2", std::make_shared<AffineModule>(std::vector{C}, bias));
  const auto mlp = register_module("mlp", std::make_shared<torch::nn::Module>());
  c_fc = mlp->register_module("c_fc", std::make_shared<AffineModule>(std::vector{hidden, C}, bias));
  mlp_c_proj = mlp->register_module("c_proj", std::make_shared<AffineModule>(std::vector{C, hidden}, bias));
}

Parameters::Parameters(const GptOptions& options) {
  wte = register_module("wte", std::make_shared<AffineModule>(std::vector{options.vocab_size, options.n_embd}, false));
  const auto list = register_module("h", std::make_shared<torch::nn::Module>());
  for (int64_t layer = 0; layer < options.n_layer; ++layer) {
    h.push_back(list->register_module(str(layer), std::make_shared<BlockModule>(options, layer)));
  }
  ln_f = register_module("ln_f", std::make_shared<AffineModule>(std::vector{options.n_embd}, options.bias));
  initialise(options);
}

void Parameters::initialise(const GptOptions& options) {
  const torch::NoGradGuard no_grad;
  const double residual_std = kInitStd / std::sqrt(2.0 * static_cast<double>(options.n_layer));
  for (auto& parameter : named_parameters()) {
    const std::string& name = parameter.key();
    Tensor& value = parameter.value();
    if (value.dim() >= 2) {
      value.normal_(0.0, name.ends_with("c_proj.weight") ? residual_std : kInitStd);
    } else {
      value.fill_(name.ends_with("bias") ? 0.0 : 1.0);  // a vector called weight belongs to a layer norm
    }
  }
}

std::vector<Tensor> Parameters::cast_weights(torch::Dtype compute) const {
  std::vector<Tensor> weights;
  for (const auto& block : h) {
    for (const auto& affine : {block->c_attn, block->attn_c_proj, block->c_fc, block->mlp_c_proj}) {
      weights.push_back(affine->weight);
    }
  }
  weights.push_back(wte->weight);
  if (wte->weight.scalar_type() == compute) return weights;
  const torch::NoGradGuard no_grad;
  std::vector<Tensor> casts;
  for (const Tensor& weight : weights) casts.push_back(at::empty_like(weight, weight.options().dtype(compute)));
  at::_foreach_copy_(casts, weights);
  return casts;
}

}  // namespace power::model
