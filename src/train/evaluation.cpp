#include "train/evaluation.h"

#include <torch/utils.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "core/error.h"
#include "core/interrupt.h"

namespace power::train {
namespace {

// Puts the model back into the mode it was in, whatever happens in between.
class EvalMode {
 public:
  explicit EvalMode(model::Gpt& model) : model_(model), was_training_(model->is_training()) { model_->eval(); }
  ~EvalMode() { model_->train(was_training_); }
  EvalMode(const EvalMode&) = delete;
  EvalMode& operator=(const EvalMode&) = delete;

 private:
  model::Gpt& model_;
  bool was_training_;
};

}  // namespace

double Evaluation::loss() const { return nats / static_cast<double>(tokens); }

double Evaluation::perplexity() const { return std::exp(loss()); }

double Evaluation::bits_per_byte() const { return nats / std::numbers::ln2 / static_cast<double>(bytes); }

Evaluation evaluate(model::Gpt& model, const data::Dataset& dataset, const data::Tokenizer& tokenizer,
                    const EvaluationOptions& options) {
  const int64_t targets = std::min(dataset.size() - 1, options.max_targets);
  require(targets > 0, ErrorKind::kData, dataset.paths().front().string(), ": ", dataset.size(),
          " token leaves nothing to predict; at least 2 are needed");
  const EvalMode eval_mode(model);
  const torch::NoGradGuard no_grad;

  Evaluation result;
  torch::Tensor nats = torch::zeros({}, torch::dtype(torch::kFloat64).device(options.device));
  std::vector<int64_t> ids;
  for (int64_t begin = 0; begin < targets;) {
    if (interrupted())
      fail(ErrorKind::kPreempted, "evaluation interrupted after ", result.tokens, " of ", targets, " tokens");
    // Whole windows go together; the ragged rest is a batch of its own.
    const int64_t left = targets - begin;
    const int64_t length = std::min(left, options.block_size);
    const int64_t windows = std::min(left / length, options.batch_size);
    const int64_t count = windows * length;
    ids.resize(static_cast<size_t>(count) + 1);
    dataset.copy(begin, count + 1, ids.data());
    for (size_t i = 1; i < ids.size(); ++i) {
      // The end of text is a token without text.
      if (ids[i] != tokenizer.end_of_text()) result.bytes += static_cast<int64_t>(tokenizer.token_bytes(ids[i]).size());
    }
    const torch::Tensor all = torch::from_blob(ids.data(), {count + 1}, torch::kInt64).to(options.device);
    nats += model->loss_sum(all.slice(0, 0, count).view({windows, length}), all.slice(0, 1).view({windows, length}));
    result.tokens += count;
    begin += count;
    if (options.progress) options.progress(result.tokens, targets);
  }
  result.nats = nats.item<double>();
  return result;
}

}  // namespace power::train
