#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ops/ops.h"

namespace power::model {

enum class AttentionKernel { kPower, kSoftmax };

// Everything that decides the parameters' shapes and the function computed; names as in the configuration.
struct GptOptions {
  int64_t n_layer = 12;
  int64_t n_head = 12;      // key/value heads
  int64_t qhead_ratio = 1;  // query heads per key/value head
  int64_t head_size = 64;
  int64_t n_embd = 768;
  int64_t vocab_size = 50304;  // rows of the embedding (padded)
  int64_t block_size = 1024;   // training context
  double rope_base = 0;        // N in the rotary angle t * 2 pi / N^(2i/D); 0: block_size
  std::vector<AttentionKernel> attention = {AttentionKernel::kPower};  // one for all layers, or one per layer
  int64_t degree = 2;
  std::optional<int64_t> chunk_size;  // as in ops::power_attention
  bool gating = true;
  std::string normalize = "sum";
  bool bias = false;
  double dropout = 0.0;
  bool recompute = false;                        // recompute each block's activations in the backward pass
  torch::Dtype compute_dtype = torch::kFloat32;  // of matrix products and attention; parameters keep their own dtype
};

// Power attention folds its newest keys into the state when there are this many of them.
inline constexpr int64_t kDecodeSwitchOver = 256;

// State of generation: constant memory per token for power attention, a growing cache for softmax layers. A default
// constructed one stands before the first token. Parameters must not change while it is in use.
struct DecodeState {
  struct Layer {
    ops::StepState power;
    torch::Tensor keys, values;  // softmax only, (B,capacity,H,D), the first `position` rows are in use
  };
  std::vector<Layer> layers;
  std::vector<torch::Tensor> casts;  // the weights in the compute dtype
  int64_t position = 0;              // tokens seen
};

class Parameters;   // the module tree behind the names (parameters.h)
class RotaryTable;  // rotary.h

// Parameter names follow the published nanoGPT-style model: transformer.wte.weight,
// transformer.h.0.attn.c_attn.weight... The head is tied to wte and is not a parameter of its own.
class GptImpl : public torch::nn::Module {
 public:
  // Initialises from the global torch generator: N(0, 0.02), residual projections / sqrt(2 n_layer), biases 0.
  // Throws Error(kUsage) where the options contradict each other.
  explicit GptImpl(const GptOptions& options);
  ~GptImpl() override;

  // tokens (B,T) int64 -> logits (B,T,vocab_size), float32 (float64 in a float64 model).
  torch::Tensor forward(const torch::Tensor& tokens);
  // Sum over all positions of the cross entropy against targets (B,T); float32 scalar (float64 in a float64 model).
  torch::Tensor loss_sum(const torch::Tensor& tokens, const torch::Tensor& targets);
  // Appends tokens (B,T) to `state` and returns the logits (B,vocab_size) after the last of them. No gradients.
  torch::Tensor decode(const torch::Tensor& tokens, DecodeState& state);

  const GptOptions& options() const { return options_; }

 private:
  // Tokens -> hidden states after the last layer norm (B,T,C) in the parameters' dtype. With `state` the tokens follow
  // those it has seen, and extend it.
  torch::Tensor hidden(const torch::Tensor& tokens, const std::vector<torch::Tensor>& casts, DecodeState* state);
  // The tied head: (...,C) -> (...,V) in the parameters' dtype.
  torch::Tensor head(const torch::Tensor& hidden, const std::vector<torch::Tensor>& casts) const;

  GptOptions options_;
  std::shared_ptr<Parameters> parameters_;
  std::unique_ptr<RotaryTable> rotary_;
};
TORCH_MODULE(Gpt);

// The attention of layer `layer`.
AttentionKernel attention_of(const GptOptions& options, int64_t layer);
// Throws Error(kUsage), saying which option is wrong, where the options make no model.
void check_options(const GptOptions& options);

// Number of parameters, the tied embedding once.
int64_t parameter_count(const GptOptions& options);
// Floating-point operations of one training token (forward and backward, 2 per multiply-add, no recompute): matrix
// products with weights, plus attention at context length `seq_len` by the form in use.
double training_flops_per_token(const GptOptions& options, int64_t seq_len);

}  // namespace power::model
