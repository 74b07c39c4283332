#pragma once

#include <torch/types.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "checkpoint/checkpoint.h"
#include "config/run_config.h"
#include "data/loader.h"
#include "data/tokenizer.h"
#include "model/gpt.h"
#include "optim/adamw.h"
#include "optim/loss_scale.h"
#include "train/device.h"
#include "train/evaluation.h"
#include "train/metrics.h"
#include "train/run_state.h"
#include "train/spike_guard.h"
#include "train/step_line.h"
#include "train/tensorboard.h"

namespace power::train {

// What one step computed. Reading it waits for that step alone: the trainer reads it when the next step has been
// submitted, so that the GPU never waits for the host.
class StepResult {
 public:
  StepResult(int64_t step, double lr, const torch::Tensor& loss, const torch::Tensor& grad_norm,
             const torch::Tensor& skipped_in_a_row);

  int64_t step() const { return step_; }
  double lr() const { return lr_; }
  const TimeMark& end() const { return end_; }
  double loss() const { return value(0); }              // mean over the step's tokens
  double grad_norm() const { return value(1); }         // before clipping
  double skipped_in_a_row() const { return value(2); }  // steps without a finite gradient, this one the last

 private:
  double value(int64_t index) const;

  int64_t step_;
  double lr_;
  torch::Tensor values_;  // float64, in host memory once end_ is reached
  TimeMark end_;
};

// One training run on one device: model, data, optimizer and the loop over steps.
class Trainer {
 public:
  // Builds everything and checks the data, before anything in the run folder is touched.
  explicit Trainer(const config::RunConfig& config);
  ~Trainer();

  // Goes on from a checkpoint instead of from the start.
  void resume(const checkpoint::Reader& reader);
  // Trains up to config.max_iters, with evaluation, log and checkpoints in config.out_dir. Throws Error(kPreempted)
  // after a checkpoint when asked to stop by a signal or the time limit, Error(kNonFinite) when the loss stays
  // non-finite.
  void run();
  // One optimizer step: forward and backward over the micro-steps, clipping, update.
  StepResult step();
  // The validation loss over the first eval_iters * batch_size windows.
  Evaluation evaluate_validation();

  const Progress& progress() const { return progress_; }
  const model::Gpt& model() const { return model_; }
  const data::Dataset& training_data() const { return *train_data_; }
  int64_t tokens_per_step() const;
  torch::Device device() const { return device_; }
  // The newest checkpoint this run wrote or came from; empty before the first.
  const std::filesystem::path& last_checkpoint() const { return last_checkpoint_; }

 private:
  void start_loader();
  void open_logs();
  void report(const StepResult& result);
  void record(const StepStats& stats);
  void validate();
  // Under `name`, or under the step's number where that is empty. A failure is a warning, and an error where there were
  // several in a row or this is the run's last save.
  void save_checkpoint(const std::string& name, bool last);
  std::string stop_reason() const;  // empty: go on
  std::string resume_hint() const;

  config::RunConfig config_;
  torch::Device device_;
  std::unique_ptr<data::Tokenizer> tokenizer_;
  std::shared_ptr<const data::Dataset> train_data_;
  std::optional<data::Dataset> val_data_;
  data::Sampler sampler_;
  model::Gpt model_;
  std::optional<optim::AdamW> optimizer_;
  std::optional<optim::LossScaler> scaler_;  // fp16 only
  std::unique_ptr<data::Loader> loader_;

  Progress progress_;
  std::filesystem::path last_checkpoint_;
  SpikeGuard spike_guard_;
  int64_t failed_saves_ = 0;  // in a row

  std::optional<MetricsLog> metrics_;
  std::optional<TensorBoardWriter> tensorboard_;
  std::chrono::steady_clock::time_point started_;
  std::optional<TimeMark> last_report_;  // end of the last reported step, or of what came after it
  int64_t last_reported_step_ = 0;
  double smoothed_step_seconds_ = 0;
};

}  // namespace power::train
