#include "train/train.h"

#include <errno.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "config/diff.h"
#include "config/load.h"
#include "core/error.h"
#include "core/file.h"
#include "core/format.h"
#include "core/log.h"
#include "core/version.h"
#include "train/device.h"
#include "train/plot.h"
#include "train/run_folder.h"
#include "train/setup.h"
#include "train/trainer.h"

namespace power::train {
namespace {

namespace fs = std::filesystem;

// The checkpoint to go on from, or nullopt for a fresh start.
std::optional<fs::path> starting_point(const config::RunConfig& config) {
  const bool explicit_path = config.resume != "auto" && config.resume != "never";
  const bool wanted = config.init_from == "resume" || config.resume == "auto";
  const fs::path run = config.out_dir;
  if (explicit_path) {
    const auto found = find_checkpoint(config.resume);
    require(found.has_value(), ErrorKind::kData, config.resume,
            ": holds no checkpoint; a run folder has them under ckpt/");
    const auto newest = fs::exists(run / "ckpt") ? checkpoint::resolve(run) : std::nullopt;
    require(!newest || fs::equivalent(*newest, *found), ErrorKind::kUsage, run.string(), " holds ",
            newest ? newest->filename().string() : "", ", which --resume=", config.resume,
            " is not; choose a fresh --out_dir for the run that branches off there");
    return found;
  }
  if (wanted && !config.overwrite) {
    const auto found = fs::exists(run / "ckpt") ? find_checkpoint(run) : std::nullopt;
    if (!found) log_info("no checkpoint in ", run.string(), ": starting at step 0");
    return found;
  }
  require(config.overwrite || !RunFolder::holds_checkpoints(run), ErrorKind::kUsage, run.string(),
          " holds checkpoints of an earlier run. To go on with it: `", program_invocation_name,
          " train --config=", (run / "config.yaml").string(),
          " --init_from=resume`; to start again and move the old run aside: add --overwrite");
  return std::nullopt;
}

// The model must be the checkpoint's; everything else may change and is said.
void check_changes(const config::RunConfig& before, const config::RunConfig& now) {
  const config::Diff diff = config::diff(before, now);
  // How this start was asked for is not a change of the run.
  static const std::set<std::string> kStartKeys = {"init_from", "resume", "overwrite", "eval_only"};
  std::string model_changes;
  for (const config::Change& change : diff.model) model_changes += "\n  " + to_string(change);
  require(model_changes.empty(), ErrorKind::kUsage,
          "the checkpoint's model has other values; resume with them, or start a new run with another --out_dir:",
          model_changes);
  for (const config::Change& change : diff.other) {
    if (!kStartKeys.contains(change.key)) log_info("changed since the checkpoint: ", to_string(change));
  }
}

void write_environment(const fs::path& path, torch::Device device) {
  std::array<char, 256> host = {};
  gethostname(host.data(), host.size() - 1);
  std::array<char, 32> now = {};
  const std::time_t seconds = std::time(nullptr);
  std::tm utc = {};
  std::strftime(now.data(), now.size(), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&seconds, &utc));
  const char* spin_count = std::getenv("GOMP_SPINCOUNT");  // of OpenMP's threads: src/cli/openmp_wait.cpp
  const nlohmann::json environment = {{"started", now.data()},
                                      {"host", host.data()},
                                      {"device", device_name(device)},
                                      {"threads", at::get_num_threads()},
                                      {"spin_count", spin_count == nullptr ? nlohmann::json() : spin_count},
                                      {"powertrain", POWERTRAIN_VERSION},
                                      {"libtorch", POWERTRAIN_LIBTORCH_VERSION},
                                      {"cuda", POWERTRAIN_CUDA_VERSION}};
  write_file_atomic(path, environment.dump(2) + "\n");
}

std::string attention_text(const model::GptOptions& options) {
  int64_t power = 0, softmax = 0;
  for (int64_t layer = 0; layer < options.n_layer; ++layer) {
    (model::attention_of(options, layer) == model::AttentionKernel::kPower ? power : softmax) += 1;
  }
  std::string form = "chunk size chosen by shape";
  if (options.chunk_size) {
    form = *options.chunk_size == ops::kQuadraticForm ? "quadratic form" : str("chunks of ", *options.chunk_size);
  }
  const std::string power_text =
      str("power, degree ", options.degree, ", ", form, options.gating ? ", gated" : ", without gates");
  if (softmax == 0) return power_text;
  if (power == 0) return "softmax";
  return str(power, " layers ", power_text, "; ", softmax, " layers softmax");
}

void print_summary(const config::RunConfig& config, const Trainer& trainer) {
  const model::GptOptions& options = trainer.model()->options();
  const double parameters = static_cast<double>(model::parameter_count(options));
  const double total_tokens = static_cast<double>(config.max_iters * trainer.tokens_per_step());
  const double flops = total_tokens * model::training_flops_per_token(options, config.block_size);
  log_info("model      ", format_amount(parameters, "parameters"), ": ", options.n_layer,
           options.n_layer == 1 ? " layer x " : " layers x ", options.n_embd, ", ",
           options.n_head * options.qhead_ratio, " query and ", options.n_head, " key/value heads of ",
           options.head_size);
  log_info("attention  ", attention_text(options));
  log_info("data       ", config.dataset, ", ",
           format_amount(static_cast<double>(trainer.training_data().size()), "training tokens"), "; ",
           format_amount(total_tokens, "tokens"), " in ", config.max_iters, " steps of ", trainer.tokens_per_step(),
           " (", config.gradient_accumulation_steps, " x ", config.batch_size, " x ", config.block_size,
           "): ", format_number("%.2f epochs", total_tokens / static_cast<double>(trainer.training_data().size())));
  log_info("device     ", device_name(trainer.device()), ", ", config.dtype,
           trainer.device().is_cpu() ? "" : str(", ", at::get_num_threads(), " CPU threads"));
  // Weights, gradients and two moments, float32 each.
  log_info("memory     ", format_bytes(parameters * 16), " for weights, gradients and optimizer, activations on top");
  const auto peak = peak_flops(trainer.device(), parse_dtype(config.dtype));
  log_info("compute    ", format_count(flops, "FLOP"),
           peak ? str(": ", format_duration(flops / (0.4 * *peak)), " at 40% of the device's peak") : "",
           "; each step line shows the time left");
  log_info("run        ", config.out_dir);
}

void print_next_commands(const config::RunConfig& config, const Trainer& trainer) {
  const std::string program = program_invocation_name;
  log_info("\ncheckpoint  ", trainer.last_checkpoint().string());
  log_info("evaluate    ", program, " eval --checkpoint ", config.out_dir);
  log_info("generate    ", program, " generate --checkpoint ", config.out_dir, " --prompt \"Once upon a time\"");
  log_info("train on    ", program, " train --config ", (fs::path(config.out_dir) / "config.yaml").string(),
           " --init_from=resume --max_iters=", 2 * config.max_iters);
}

}  // namespace

void train(const config::RunConfig& config) {
  const std::optional<fs::path> start = starting_point(config);
  Trainer trainer(config);
  if (config.eval_only && !start) fail(ErrorKind::kUsage, "eval_only needs a checkpoint: add --init_from=resume");
  if (start) {
    const checkpoint::Reader reader(*start);
    check_changes(load_config(reader), config);
    trainer.resume(reader);
    log_info("resumed from ", start->string(), " at step ", trainer.progress().step);
  }
  if (config.eval_only) {
    const Evaluation result = trainer.evaluate_validation();
    std::printf("step %lld | val loss %.4f | perplexity %.2f | bits/byte %.4f\n",
                static_cast<long long>(trainer.progress().step), result.loss(), result.perplexity(),
                result.bits_per_byte());
    return;
  }

  RunFolder folder(config.out_dir);
  if (config.overwrite && !start && folder.has_old_run())
    log_info("moved the old run to ", folder.move_aside().string());
  add_log_file((folder.path() / "log" / "rank-0.log").string());
  write_file_atomic(folder.path() / "config.yaml", config::to_yaml(config));
  write_environment(folder.path() / "env.json", trainer.device());
  print_summary(config, trainer);

  trainer.run();

  plot_runs({folder.path()}, folder.path() / "loss.svg");
  print_next_commands(config, trainer);
}

}  // namespace power::train
