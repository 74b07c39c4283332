#include "model/gpt.h"

#include <torch/utils.h>

#include "core/error.h"
#include "model/attention.h"
#include "model/block.h"
#include "model/cross_entropy.h"
#include "model/parameters.h"
#include "model/rotary.h"

namespace power::model {
namespace {

using torch::Tensor;

// What the model computes in: a float64 model is float64 throughout, whatever the option says.
torch::Dtype compute_dtype(const GptOptions& options, const Tensor& parameter) {
  return parameter.scalar_type() == torch::kFloat64 ? torch::kFloat64 : options.compute_dtype;
}

void check_tokens(const Tensor& tokens) {
  require(tokens.dim() == 2 && tokens.scalar_type() == torch::kInt64 && tokens.numel() > 0, ErrorKind::kRuntime,
          "the model takes a batch of int64 tokens (B,T), not empty; got ",
          c10::str(tokens.scalar_type(), " of shape ", tokens.sizes()));
}

}  // namespace

GptImpl::GptImpl(const GptOptions& options) : options_(options) {
  check_options(options_);
  if (options_.rope_base == 0) options_.rope_base = static_cast<double>(options_.block_size);
  parameters_ = register_module("transformer", std::make_shared<Parameters>(options_));
  rotary_ = std::make_unique<RotaryTable>(options_.head_size, options_.rope_base);
}

GptImpl::~GptImpl() = default;

Tensor GptImpl::hidden(const Tensor& tokens, const std::vector<Tensor>& casts, DecodeState* state) {
  check_tokens(tokens);
  const Tensor& embedding = parameters_->wte->weight;
  const double dropout = is_training() ? options_.dropout : 0.0;
  const bool recomputed = options_.recompute && torch::GradMode::is_enabled();
  const int64_t position = state ? state->position : 0;
  const auto table_dtype = embedding.scalar_type();
  const Tensor rotary = rotary_->rows(position, tokens.size(1), embedding.device(), table_dtype);
  Tensor x = at::embedding(embedding, tokens);  // (B,T,C)
  if (dropout > 0) x = at::dropout(x, dropout, true);
  for (int64_t layer = 0; layer < options_.n_layer; ++layer) {
    const AttentionKernel kernel = attention_of(options_, layer);
    const Attend attend_layer = [=, this](const AttentionInputs& in) {
      return state ? attend_step(in, kernel, options_, state->layers[layer], position)
                   : attend(in, kernel, options_, dropout);
    };
    const BlockAffines affines = block_affines(*parameters_->h[layer], casts, layer * kCastsPerBlock);
    const HeadLayout heads = head_layout(options_, layer);
    x = recomputed ? block_forward_recomputed(x, affines, heads, rotary, attend_layer, dropout, dropout > 0)
                   : block_forward(x, affines, heads, rotary, attend_layer, dropout);
  }
  return layer_norm(x, parameters_->ln_f->with_cast());
}

Tensor GptImpl::head(const Tensor& hidden, const std::vector<Tensor>& casts) const {
  const Affine wte = parameters_->wte->with_cast(casts.back());
  return linear(hidden.to(wte.cast.scalar_type()), wte).to(hidden.scalar_type());
}

Tensor GptImpl::forward(const Tensor& tokens) {
  const std::vector<Tensor> casts = parameters_->cast_weights(compute_dtype(options_, parameters_->wte->weight));
  return head(hidden(tokens, casts, nullptr), casts);
}

Tensor GptImpl::loss_sum(const Tensor& tokens, const Tensor& targets) {
  require(tokens.sizes() == targets.sizes(), ErrorKind::kRuntime,
          c10::str("tokens ", tokens.sizes(), " and targets ", targets.sizes(), " differ in shape"));
  const std::vector<Tensor> casts = parameters_->cast_weights(compute_dtype(options_, parameters_->wte->weight));
  const Tensor rows = hidden(tokens, casts, nullptr).flatten(0, 1);  // (B*T,C)
  return cross_entropy_sum(rows, parameters_->wte->with_cast(casts.back()), targets.flatten());
}

Tensor GptImpl::decode(const Tensor& tokens, DecodeState& state) {
  const torch::NoGradGuard no_grad;
  if (state.position == 0) {
    state.layers.assign(options_.n_layer, {});
    state.casts = parameters_->cast_weights(compute_dtype(options_, parameters_->wte->weight));
  }
  const Tensor last = hidden(tokens, state.casts, &state).select(1, -1);  // (B,C)
  state.position += tokens.size(1);
  return head(last, state.casts);
}

}  // namespace power::model
