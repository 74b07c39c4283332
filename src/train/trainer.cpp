#include "train/trainer.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>

#include "core/error.h"
#include "core/format.h"
#include "core/interrupt.h"
#include "core/log.h"
#include "core/progress.h"
#include "optim/grad_clip.h"
#include "optim/lr_schedule.h"
#include "train/device.h"
#include "train/setup.h"

namespace power::train {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kFailedSavesAllowed = 3;  // in a row; a full disk may be cleaned up while the run goes on
// In a row; each was skipped, so the weights are still good. float16 first has to find its loss scale by halving it.
constexpr int64_t kNonFiniteStepsAllowed = 5;
constexpr int64_t kNonFiniteStepsAllowedFloat16 = 20;

double seconds_between(Clock::time_point begin, Clock::time_point end) {
  return std::chrono::duration<double>(end - begin).count();
}

}  // namespace

StepResult::StepResult(int64_t step, double lr, const torch::Tensor& loss, const torch::Tensor& grad_norm,
                       const torch::Tensor& skipped_in_a_row)
    : step_(step),
      lr_(lr),
      // One copy into pinned memory, ahead of the mark: reading waits for the mark and not for the stream.
      values_(torch::empty({3}, torch::dtype(torch::kFloat64).pinned_memory(loss.is_cuda()))
                  .copy_(torch::stack({loss.to(torch::kFloat64), grad_norm.to(torch::kFloat64),
                                       skipped_in_a_row.to(torch::kFloat64)}),
                         /*non_blocking=*/true)),
      end_(loss.device()) {}

double StepResult::value(int64_t index) const {
  end_.wait();
  return values_.data_ptr<double>()[index];
}

Trainer::Trainer(const config::RunConfig& config)
    : config_(config),
      device_(choose_device(config.device)),
      tokenizer_(data::make_tokenizer(config.tokenizer)),
      train_data_(std::make_shared<data::Dataset>(open_dataset(config, split_patterns(config, "train"), *tokenizer_))),
      sampler_(train_data_->size(), config.block_size, static_cast<uint64_t>(config.seed)),
      model_(nullptr),
      started_(Clock::now()) {
  if (!config.disable_eval) {
    val_data_.emplace(open_dataset(config, split_patterns(config, "val"), *tokenizer_));
    // Now, and not at the first evaluation, when there is a run folder already.
    require(val_data_->size() >= 2, ErrorKind::kData, val_data_->paths().front().string(), ": the validation data has ",
            val_data_->size(),
            " token, of which nothing can be predicted; hold out more text (`powertrain data tokenize ",
            "--val_fraction`), or train with --disable_eval");
  }
  seed_everything(config.seed, config.deterministic);
  model_ = model::Gpt(gpt_options(config, tokenizer_->vocab_size()));
  model_->to(device_);
  model_->train();
  optim::AdamWOptions options;
  options.beta1 = config.beta1;
  options.beta2 = config.beta2;
  options.weight_decay = config.weight_decay;
  optimizer_.emplace(model_->named_parameters(), options);
  if (parse_dtype(config.dtype) == torch::kFloat16) scaler_.emplace(device_);
}

Trainer::~Trainer() = default;

int64_t Trainer::tokens_per_step() const {
  return config_.batch_size * config_.gradient_accumulation_steps * config_.block_size;
}

void Trainer::resume(const checkpoint::Reader& reader) {
  progress_ = restore(reader, model_, *optimizer_, scaler_, device_);
  spike_guard_.restore(progress_.recent_losses);
  last_checkpoint_ = reader.path();
}

void Trainer::start_loader() {
  data::LoaderOptions options;
  options.batch_size = config_.batch_size;
  options.seq_len = config_.block_size;
  options.first_sample = progress_.samples;
  options.device = device_;
  loader_ = std::make_unique<data::Loader>(train_data_, sampler_, options);
}

StepResult Trainer::step() {
  if (!loader_) start_loader();
  // 1. forward and backward: every micro-step adds its share of the mean over the whole step's tokens
  const double share = 1.0 / static_cast<double>(tokens_per_step());
  const torch::Tensor loss_scale = scaler_ ? scaler_->scale() : torch::Tensor();
  torch::Tensor total = torch::zeros({}, torch::dtype(torch::kFloat32).device(device_));
  for (int64_t micro = 0; micro < config_.gradient_accumulation_steps; ++micro) {
    const data::Batch batch = loader_->next();
    const torch::Tensor loss = model_->loss_sum(batch.tokens, batch.targets) * share;
    (scaler_ ? loss * loss_scale : loss).backward();
    total += loss.detach();
  }
  // 2. clipping and update; a step whose gradient is not finite changes nothing, decided on the device
  const std::vector<torch::Tensor> gradients = optimizer_->gradients();
  const optim::GradientNorm norm = optim::gradient_norm(gradients, loss_scale);
  optim::clip_gradients(gradients, norm, config_.grad_clip, loss_scale);
  const double lr = optim::learning_rate_at(lr_schedule(config_), progress_.step);
  optimizer_->step(lr, norm.found_inf);
  if (scaler_) scaler_->update(norm.found_inf);
  optimizer_->zero_grad();
  // 3. what a checkpoint of this moment has to know
  progress_.step += 1;
  progress_.samples += config_.batch_size * config_.gradient_accumulation_steps;
  progress_.tokens += tokens_per_step();
  return {progress_.step, lr, total, norm.norm, optimizer_->skipped_in_a_row()};
}

Evaluation Trainer::evaluate_validation() {
  EvaluationOptions options;
  options.block_size = config_.block_size;
  options.batch_size = config_.batch_size;
  options.max_targets = config_.eval_iters * config_.batch_size * config_.block_size;
  options.device = device_;
  ProgressBar bar("evaluate", std::min(options.max_targets, val_data_->size() - 1), "tok");
  options.progress = [&bar](int64_t done, int64_t) { bar.update(done); };
  return evaluate(model_, *val_data_, *tokenizer_, options);
}

void Trainer::report(const StepResult& result) {
  const double loss = result.loss();
  const double skipped = result.skipped_in_a_row();
  const double steps = static_cast<double>(std::max<int64_t>(result.step() - last_reported_step_, 1));
  const double step_seconds = result.end().seconds_since(*last_report_) / steps;
  smoothed_step_seconds_ =
      smoothed_step_seconds_ == 0 ? step_seconds : 0.9 * smoothed_step_seconds_ + 0.1 * step_seconds;

  StepStats stats;
  stats.step = result.step();
  stats.max_steps = config_.max_iters;
  stats.loss = loss;
  stats.grad_norm = result.grad_norm();
  stats.lr = result.lr();
  stats.step_seconds = step_seconds;
  stats.tokens_per_s = static_cast<double>(tokens_per_step()) / step_seconds;
  if (const auto peak = peak_flops(device_, parse_dtype(config_.dtype))) {
    stats.mfu = stats.tokens_per_s * model::training_flops_per_token(model_->options(), config_.block_size) / *peak;
  }
  stats.data_fraction = loader_->take_wait_seconds() / (step_seconds * steps);
  stats.memory_bytes = peak_memory_bytes(device_);
  stats.eta_seconds = static_cast<double>(config_.max_iters - result.step()) * smoothed_step_seconds_;
  log_info(step_line(stats));
  record(stats);
  last_report_ = result.end();
  last_reported_step_ = result.step();

  if (spike_guard_.observe(loss)) {
    log_warning("step ", result.step(), ": the loss jumped to ", format_number("%.4f", loss),
                "; where it does not come down again, go back to an earlier checkpoint or lower the learning rate");
  }
  progress_.recent_losses = spike_guard_.window();
  if (skipped > 0) {
    log_warning("step ", result.step(), ": the gradient is not finite; the update was skipped (", skipped,
                " in a row)");
  }
  const int64_t allowed = scaler_ ? kNonFiniteStepsAllowedFloat16 : kNonFiniteStepsAllowed;
  require(skipped < static_cast<double>(allowed), ErrorKind::kNonFinite, "step ", result.step(), ": ", skipped,
          " steps in a row had no finite gradient. The weights of the last checkpoint are good: ", resume_hint(),
          ", with a lower --learning_rate or --dtype=float32");
}

void Trainer::record(const StepStats& stats) {
  metrics_->append({{"step", stats.step},
                    {"loss", stats.loss},
                    {"grad_norm", stats.grad_norm},
                    {"lr", stats.lr},
                    {"step_ms", stats.step_seconds * 1e3},
                    {"tokens_per_s", stats.tokens_per_s},
                    {"mfu", stats.mfu ? nlohmann::json(*stats.mfu) : nlohmann::json()},
                    {"tokens", stats.step * tokens_per_step()},
                    {"memory_bytes", stats.memory_bytes}});
  if (tensorboard_) {
    tensorboard_->add_scalar("train/loss", stats.step, stats.loss);
    tensorboard_->add_scalar("train/grad_norm", stats.step, stats.grad_norm);
    tensorboard_->add_scalar("train/lr", stats.step, stats.lr);
    tensorboard_->add_scalar("train/tokens_per_s", stats.step, stats.tokens_per_s);
  }
}

void Trainer::validate() {
  const Clock::time_point begin = Clock::now();
  Evaluation result;
  try {
    result = evaluate_validation();
  } catch (const Error& error) {
    // Asked to stop: the step's checkpoint matters more than its validation loss.
    if (error.kind() != ErrorKind::kPreempted) throw;
    log_info(error.what());
    return;
  }
  const bool best = result.loss() < progress_.best_val_loss;
  if (best) progress_.best_val_loss = result.loss();
  log_info("step ", progress_.step, "/", config_.max_iters, " | val loss ", format_number("%.4f", result.loss()),
           " | perplexity ", format_number("%.2f", result.perplexity()), " | bits/byte ",
           format_number("%.4f", result.bits_per_byte()), " | ",
           format_amount(static_cast<double>(result.tokens), "tokens"), " in ",
           format_duration(seconds_between(begin, Clock::now())));
  metrics_->append({{"step", progress_.step},
                    {"val_loss", result.loss()},
                    {"val_bits_per_byte", result.bits_per_byte()},
                    {"tokens", progress_.tokens}});
  if (tensorboard_) tensorboard_->add_scalar("val/loss", progress_.step, result.loss());
  // always_save_checkpoint=false asks for the best weights, as in nanoGPT; the periodic checkpoints come in any case.
  if (best && !config_.always_save_checkpoint && progress_.step > 0) save_checkpoint("best", false);
}

void Trainer::save_checkpoint(const std::string& name, bool last) {
  try {
    checkpoint::Contents contents = capture(config_, model_, *optimizer_, scaler_, progress_, device_);
    ProgressBar bar("save", 0, "B");
    contents.progress = [&bar](int64_t done, int64_t total) {
      bar.set_total(total);
      bar.update(done);
    };
    const std::filesystem::path path = checkpoint::save(config_.out_dir, contents, name);
    if (name.empty()) {
      last_checkpoint_ = path;
      checkpoint::rotate(config_.out_dir, config_.keep_last);
    }
    failed_saves_ = 0;
    log_info("saved ", path.string());
  } catch (const Error& error) {
    ++failed_saves_;
    if (last || failed_saves_ >= kFailedSavesAllowed) throw;
    log_warning("the checkpoint was not saved (", failed_saves_, " in a row, the run ends at ", kFailedSavesAllowed,
                "): ", error.what());
  }
}

std::string Trainer::resume_hint() const {
  return str("resume with `", program_invocation_name,
             " train --config=", (std::filesystem::path(config_.out_dir) / "config.yaml").string(),
             " --init_from=resume`");
}

std::string Trainer::stop_reason() const {
  if (interrupted()) return str("SIG", sigabbrev_np(interrupt_signal()));
  if (config_.time_limit > 0 && seconds_between(started_, Clock::now()) > config_.time_limit * 60) {
    return str("time_limit of ", config_.time_limit, " minutes");
  }
  return "";
}

void Trainer::open_logs() {
  const std::filesystem::path folder = config_.out_dir;
  metrics_.emplace(folder / "metrics.jsonl", progress_.step);
  if (config_.tensorboard) tensorboard_.emplace(folder / "tb", progress_.step);
}

void Trainer::run() {
  open_logs();
  const int64_t save_interval = config_.save_interval.value_or(config_.eval_interval);
  if (val_data_ && progress_.step == 0) validate();
  last_report_.emplace(device_);
  last_reported_step_ = progress_.step;

  std::optional<StepResult> pending;  // reported while the next step runs
  const auto report_pending = [&] {
    if (pending) report(*std::exchange(pending, std::nullopt));
  };
  while (progress_.step < config_.max_iters) {
    const StepResult result = step();
    report_pending();
    const bool finished = progress_.step == config_.max_iters;
    const bool evaluates = val_data_ && (progress_.step % config_.eval_interval == 0 || finished);
    const bool saves = progress_.step % save_interval == 0 || finished;
    const bool stops = !stop_reason().empty();
    if (progress_.step % config_.log_interval == 0 || finished || stops) pending = result;
    if (!evaluates && !saves && !stops) continue;

    report_pending();
    if (evaluates && !stops) validate();
    const std::string reason = stop_reason();  // the signal may have come during the evaluation
    if (saves || !reason.empty()) save_checkpoint("", finished || !reason.empty());
    if (!reason.empty()) {
      fail(ErrorKind::kPreempted, "stopped by ", reason, " after step ", progress_.step, "; ", resume_hint());
    }
    last_report_.emplace(device_);  // evaluation and saving are not part of a step's time
  }
}

}  // namespace power::train
