#include "train/generation.h"

#include <torch/utils.h>

#include <algorithm>

#include "core/error.h"
#include "core/interrupt.h"

namespace power::train {

torch::Tensor sampling_probabilities(const torch::Tensor& logits, const SamplingOptions& options) {
  torch::Tensor scores = logits.slice(0, 0, options.vocab_size).to(torch::kCPU, torch::kFloat32);
  if (options.temperature == 0) return torch::one_hot(scores.argmax(), scores.size(0)).to(torch::kFloat32);
  scores = scores / options.temperature;
  if (options.top_k > 0 && options.top_k < scores.size(0)) {
    const auto kept = scores.topk(options.top_k);
    scores = torch::full_like(scores, -INFINITY).scatter(0, std::get<1>(kept), std::get<0>(kept));
  }
  torch::Tensor probabilities = scores.softmax(0);
  if (options.top_p < 1) {
    const auto [sorted, order] = probabilities.sort(/*stable=*/true, 0, /*descending=*/true);
    // A token stays where the likelier ones alone do not reach top_p yet; the first always does.
    const torch::Tensor before = sorted.cumsum(0) - sorted;
    const torch::Tensor kept = torch::where(before < options.top_p, sorted, torch::zeros_like(sorted));
    probabilities = torch::zeros_like(probabilities).scatter(0, order, kept / kept.sum());
  }
  return probabilities;
}

void generate(model::Gpt& model, const std::vector<int64_t>& prompt, const SamplingOptions& options,
              torch::Generator& generator, torch::Device device, const std::function<bool(int64_t)>& emit) {
  require(!prompt.empty(), ErrorKind::kUsage, "the prompt has no token: give at least one character");
  const torch::NoGradGuard no_grad;
  model->eval();
  model::DecodeState state;
  torch::Tensor tokens = torch::tensor(prompt, torch::kInt64).view({1, -1}).to(device);
  for (int64_t i = 0; i < options.max_new_tokens; ++i) {
    if (interrupted()) fail(ErrorKind::kPreempted, "generation interrupted after ", i, " tokens");
    const torch::Tensor logits = model->decode(tokens, state)[0];
    const torch::Tensor probabilities = sampling_probabilities(logits, options);
    const int64_t token = torch::multinomial(probabilities, 1, /*replacement=*/false, generator).item<int64_t>();
    if (token == options.end_of_text || !emit(token)) return;
    tokens = torch::full({1, 1}, token, torch::kInt64).to(device);
  }
}

}  // namespace power::train
