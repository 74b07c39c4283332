#include <algorithm>
#include <string>

#include "config/load.h"
#include "config/value.h"
#include "core/error.h"

// What no single key can tell: combinations.
namespace power::config {
namespace {

template <class... Args>
void check(bool condition, const Args&... message) {
  require(condition, ErrorKind::kUsage, message...);
}

bool uses(const RunConfig& config, const char* kernel) {
  const auto& kernels = config.attention_kernel;
  return std::find(kernels.begin(), kernels.end(), kernel) != kernels.end();
}

// The chunked form of power attention keeps C(D+p-1, p) state rows per head; it has these degrees and head sizes.
bool has_chunked_form(const RunConfig& config) {
  return config.degree <= 2 || (config.degree <= 4 && config.head_size <= 32);
}

void check_model(const RunConfig& config) {
  check(config.head_size % 2 == 0, "head_size ", config.head_size,
        " is odd; the rotary embedding turns pairs: use an even number");
  const auto kernels = static_cast<int64_t>(config.attention_kernel.size());
  check(kernels == 1 || kernels == config.n_layer, "attention_kernel has ", kernels, " entries for ", config.n_layer,
        " layers (n_layer); give one, or one per layer");
  if (!uses(config, "power")) return;
  const bool even_or_small = config.degree % 2 == 0 || config.degree <= 3;
  check(even_or_small, "degree ", config.degree, " is not supported; use 1, 2, 3, 4 or a larger even number");
  check(config.chunk_size == "None" || config.chunk_size == "auto" || has_chunked_form(config), "chunk_size ",
        config.chunk_size, ": degree ", config.degree, " with head_size ", config.head_size,
        " has no chunked form (degrees 1 and 2, or 3 and 4 with head_size <= 32); use chunk_size=None");
}

void check_schedule(const RunConfig& config) {
  if (!config.decay_lr) return;
  check(config.min_lr <= config.learning_rate, "min_lr ", format_value(config.min_lr), " is above learning_rate ",
        format_value(config.learning_rate), "; lower min_lr");
}

void check_run(const RunConfig& config) {
  check(config.init_from != "resume" || config.resume != "never" || !config.overwrite,
        "init_from=resume and overwrite=True contradict each other; give one");
  check(config.resume == "never" || !config.overwrite, "resume=", config.resume,
        " and overwrite=True contradict each other; give one");
  check(!config.eval_only || !config.disable_eval, "eval_only=True and disable_eval=True contradict each other");
}

}  // namespace

void validate(const RunConfig& config) {
  check_model(config);
  check_schedule(config);
  check_run(config);
}

std::vector<std::string> doubts(const RunConfig& config) {
  std::vector<std::string> found;
  if (config.decay_lr && config.warmup_iters >= config.lr_decay_iters) {
    found.push_back(str("warmup_iters ", config.warmup_iters, " is not below lr_decay_iters ", config.lr_decay_iters,
                        ": the learning rate only rises, and then drops to min_lr; lower warmup_iters"));
  }
  return found;
}

}  // namespace power::config
