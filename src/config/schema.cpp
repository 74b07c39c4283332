#include "config/schema.h"

#include "config/value.h"
#include "core/str.h"

namespace power::config {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

constexpr Range at_least(double min) { return {.min = min}; }
constexpr Range between(double min, double max) { return {.min = min, .max = max}; }
constexpr Range from_to_below(double min, double max) { return {.min = min, .max = max, .below_max = true}; }

bool is_positive_count(const std::string& text) {
  const auto value = parse_integer(text);
  return value && *value >= 1;
}

bool is_cuda_device(const std::string& text) {
  if (text.rfind("cuda:", 0) != 0) return false;
  const auto index = parse_integer(text.substr(5));
  return index && *index >= 0 && *index < 128;
}

bool is_any_path(const std::string& text) { return !text.empty(); }

using C = RunConfig;

std::vector<Key> build_schema() {
  const std::string data = "Data", model = "Model", training = "Optimisation", run = "Run", machine = "Machine";
  // Bounds on sizes are far beyond any machine; they keep products of them inside 64 bits.
  const Range size = between(1, 1 << 20), count = between(1, 1e12), count_or_none = between(0, 1e12);
  return {
      {.name = "dataset",
       .group = data,
       .member = &C::dataset,
       .help = "folder under data_root that holds train.bin (or train*.bin) and val.bin (or val*.bin)",
       .is_form = is_any_path,
       .form = "a folder name"},
      {.name = "data_root",
       .group = data,
       .member = &C::data_root,
       .help = "folder that holds the data sets",
       .is_form = is_any_path,
       .form = "a path"},
      {.name = "tokenizer",
       .group = data,
       .member = &C::tokenizer,
       .help = "what the token ids of the data set mean",
       .choices = {"gpt2", "bytes"},
       .model = true},
      {.name = "verify_data",
       .group = data,
       .member = &C::verify_data,
       .help = "check of every token id before step 0; cached skips files that were checked and have not changed",
       .choices = {"full", "cached", "off"}},

      {.name = "n_layer",
       .group = model,
       .member = &C::n_layer,
       .help = "transformer blocks",
       .range = between(1, 1024),
       .model = true},
      {.name = "n_head",
       .group = model,
       .member = &C::n_head,
       .help = "key/value heads",
       .range = between(1, 1024),
       .model = true},
      {.name = "n_embd",
       .group = model,
       .member = &C::n_embd,
       .help = "width of the residual stream",
       .range = size,
       .model = true},
      {.name = "head_size",
       .group = model,
       .member = &C::head_size,
       .help = "width of one head; even (rotary embedding), independent of n_embd",
       .range = between(2, 1024),
       .model = true},
      {.name = "qhead_ratio",
       .group = model,
       .member = &C::qhead_ratio,
       .help = "query heads per key/value head",
       .range = between(1, 1024),
       .model = true},
      {.name = "attention_kernel",
       .group = model,
       .member = &C::attention_kernel,
       .help = "attention of every layer, or a list with one entry per layer: [power, sdpa, ...]",
       .choices = {"power", "sdpa"},
       .model = true},
      {.name = "degree",
       .group = model,
       .member = &C::degree,
       .help = "power of power attention: 1, 3 or even; the chunked form has 1 to 4 (3 and 4: head_size <= 32)",
       .range = between(1, 64),
       .model = true},
      {.name = "chunk_size",
       .group = model,
       .member = &C::chunk_size,
       .help = "tokens per chunk of power attention; None computes all pairs, auto takes the faster form",
       .choices = {"None", "auto"},
       .is_form = is_positive_count,
       .form = "a whole number >= 1",
       .unit = "tokens"},
      {.name = "disable_gating",
       .group = model,
       .member = &C::disable_gating,
       .help = "power attention without its learned decay",
       .model = true},
      {.name = "normalize",
       .group = model,
       .member = &C::normalize,
       .help = "normalisation of power attention: by the sum of weights, by layer norm of the output, or none",
       .choices = {"sum", "layer", "none"},
       .model = true},
      {.name = "dropout",
       .group = model,
       .member = &C::dropout,
       .help = "probability of dropping an activation",
       .range = from_to_below(0, 1)},
      {.name = "bias",
       .group = model,
       .member = &C::bias,
       .help = "biases in linear layers and layer norms",
       .model = true},
      {.name = "block_size",
       .group = model,
       .member = &C::block_size,
       .help = "context of a training sequence, and the base of the rotary angles",
       .range = between(1, 1 << 28),
       .unit = "tokens",
       .model = true},
      {.name = "recompute",
       .group = model,
       .member = &C::recompute,
       .help = "recompute each block's activations in the backward pass: less memory, about a third more time"},

      {.name = "batch_size",
       .group = training,
       .member = &C::batch_size,
       .help = "sequences per rank and micro-step",
       .range = size,
       .unit = "sequences"},
      {.name = "gradient_accumulation_steps",
       .group = training,
       .member = &C::gradient_accumulation_steps,
       .help = "micro-steps per update, in all over the ranks",
       .range = size},
      {.name = "max_iters",
       .group = training,
       .member = &C::max_iters,
       .help = "updates in all",
       .range = count_or_none,
       .unit = "steps"},
      {.name = "learning_rate",
       .group = training,
       .member = &C::learning_rate,
       .help = "highest learning rate",
       .range = {.min = 0, .max = 100, .above_min = true}},
      {.name = "min_lr",
       .group = training,
       .member = &C::min_lr,
       .help = "learning rate at the end of the decay",
       .range = between(0, 100)},
      {.name = "lr_schedule",
       .group = training,
       .member = &C::lr_schedule,
       .help = "cosine decay, or wsd: warm-up, constant, linear decay over the last fifth",
       .choices = {"cosine", "wsd"}},
      {.name = "warmup_iters",
       .group = training,
       .member = &C::warmup_iters,
       .help = "the learning rate rises linearly from 0 over so many steps",
       .range = count_or_none,
       .unit = "steps"},
      {.name = "lr_decay_iters",
       .group = training,
       .member = &C::lr_decay_iters,
       .help = "the learning rate reaches min_lr here",
       .range = count,
       .unit = "steps"},
      {.name = "decay_lr",
       .group = training,
       .member = &C::decay_lr,
       .help = "False keeps learning_rate constant, without warm-up"},
      {.name = "weight_decay",
       .group = training,
       .member = &C::weight_decay,
       .help = "AdamW's decay of matrices (not of biases and norms)",
       .range = between(0, 1000)},
      {.name = "beta1",
       .group = training,
       .member = &C::beta1,
       .help = "AdamW: decay of the mean of gradients",
       .range = from_to_below(0, 1)},
      {.name = "beta2",
       .group = training,
       .member = &C::beta2,
       .help = "AdamW: decay of the mean of squared gradients",
       .range = from_to_below(0, 1)},
      {.name = "grad_clip",
       .group = training,
       .member = &C::grad_clip,
       .help = "largest norm of the whole gradient; 0 does not clip",
       .range = at_least(0)},

      {.name = "out_dir",
       .group = run,
       .member = &C::out_dir,
       .help = "folder of the run",
       .is_form = is_any_path,
       .form = "a path"},
      {.name = "init_from",
       .group = run,
       .member = &C::init_from,
       .help = "scratch starts anew; resume is the same as resume=auto",
       .choices = {"scratch", "resume"}},
      {.name = "resume",
       .group = run,
       .member = &C::resume,
       .help = "auto goes on from the newest valid checkpoint of out_dir where there is one; PATH from that checkpoint",
       .choices = {"auto", "never"},
       .is_form = is_any_path,
       .form = "PATH of a checkpoint"},
      {.name = "overwrite",
       .group = run,
       .member = &C::overwrite,
       .help = "moves an old run in out_dir aside and starts anew"},
      {.name = "eval_only", .group = run, .member = &C::eval_only, .help = "evaluate once and end"},
      {.name = "always_save_checkpoint",
       .group = run,
       .member = &C::always_save_checkpoint,
       .help = "False keeps ckpt/best only where the validation loss improved"},
      {.name = "eval_interval",
       .group = run,
       .member = &C::eval_interval,
       .help = "validation loss every so many steps",
       .range = count,
       .unit = "steps"},
      {.name = "eval_iters",
       .group = run,
       .member = &C::eval_iters,
       .help = "batches of batch_size sequences in one validation loss",
       .range = between(1, 1 << 28),
       .unit = "batches"},
      {.name = "disable_eval", .group = run, .member = &C::disable_eval, .help = "no validation loss during training"},
      {.name = "log_interval",
       .group = run,
       .member = &C::log_interval,
       .help = "one step line every so many steps",
       .range = count,
       .unit = "steps"},
      {.name = "save_interval",
       .group = run,
       .member = &C::save_interval,
       .help = "a checkpoint every so many steps; None: every eval_interval",
       .range = count,
       .unit = "steps"},
      {.name = "keep_last",
       .group = run,
       .member = &C::keep_last,
       .help = "checkpoints kept; the last valid one is never deleted",
       .range = between(1, 1 << 20)},
      {.name = "time_limit",
       .group = run,
       .member = &C::time_limit,
       .help = "save and stop (exit code 5) after so many minutes; 0: no limit",
       .range = between(0, 1e7),
       .unit = "minutes"},
      {.name = "tensorboard", .group = run, .member = &C::tensorboard, .help = "write event files to out_dir/tb"},

      {.name = "device",
       .group = machine,
       .member = &C::device,
       .help = "auto takes the first GPU, else the CPU",
       .choices = {"auto", "cpu", "cuda"},
       .is_form = is_cuda_device,
       .form = "cuda:N"},
      {.name = "dtype",
       .group = machine,
       .member = &C::dtype,
       .help = "of matrix products and attention; weights and optimizer stay float32",
       .choices = {"float32", "bfloat16", "float16"}},
      {.name = "seed",
       .group = machine,
       .member = &C::seed,
       .help = "of initialisation, data order and dropout",
       .range = between(0, 9007199254740991.0)},
      {.name = "deterministic",
       .group = machine,
       .member = &C::deterministic,
       .help = "same bits in every run on the same machine, slower"},
  };
}

std::string range_text(const Range& range) {
  const bool low = range.min != -kInfinity, high = range.max != kInfinity;
  if (low && high) {
    return str(range.above_min ? " > " : " >= ", format_value(range.min),
               range.below_max ? " and < " : " and <= ", format_value(range.max));
  }
  if (low) return str(range.above_min ? " > " : " >= ", format_value(range.min));
  if (high) return str(range.below_max ? " < " : " <= ", format_value(range.max));
  return "";
}

std::string join_or(std::vector<std::string> words) {
  std::string text;
  for (size_t i = 0; i < words.size(); ++i) {
    if (i > 0) text += i + 1 == words.size() ? " or " : ", ";
    text += words[i];
  }
  return text;
}

}  // namespace

const std::vector<Key>& schema() {
  static const std::vector<Key> keys = build_schema();
  return keys;
}

const std::vector<IgnoredKey>& ignored_keys() {
  static const std::vector<IgnoredKey> keys = {
      {"backend", "one process trains on one device"},
      {"compile", "the kernels are compiled ahead"},
      {"log_space", "weights are computed by multiplication"},
      {"eval_slowdown_factor", "evaluation is every eval_interval steps"},
      {"run_name", "out_dir names the run"},
      {"disable_logging", "the run folder always has its log"},
      {"wandb_*", "metrics go to out_dir/metrics.jsonl and TensorBoard files"},
  };
  return keys;
}

const Key* find_key(std::string_view name) {
  for (const Key& key : schema()) {
    if (key.name == name) return &key;
  }
  return nullptr;
}

const IgnoredKey* find_ignored_key(std::string_view name) {
  for (const IgnoredKey& key : ignored_keys()) {
    const std::string_view pattern = key.name;
    const bool prefix = pattern.back() == '*';
    if (prefix ? name.size() >= pattern.size() &&
                     name.substr(0, pattern.size() - 1) == pattern.substr(0, pattern.size() - 1)
               : name == pattern) {
      return &key;
    }
  }
  return nullptr;
}

std::vector<std::string> key_names() {
  std::vector<std::string> names;
  for (const Key& key : schema()) names.push_back(key.name);
  return names;
}

bool is_boolean(const Key& key) { return std::holds_alternative<bool RunConfig::*>(key.member); }

bool is_path(const Key& key) { return key.is_form == is_any_path; }

std::string placeholder(const Key& key) {
  if (is_boolean(key)) return "True|False";
  if (std::holds_alternative<double RunConfig::*>(key.member)) return "F";
  if (std::holds_alternative<int64_t RunConfig::*>(key.member)) return "N";
  if (std::holds_alternative<std::optional<int64_t> RunConfig::*>(key.member)) return "N";
  std::string text;
  for (const std::string& choice : key.choices) text += (text.empty() ? "" : "|") + choice;
  if (key.is_form == nullptr) return text;
  const char* form = key.is_form == is_any_path ? "PATH" : key.is_form == is_cuda_device ? "cuda:N" : "N";
  return text + (text.empty() ? "" : "|") + form;
}

std::string default_text(const Key& key) { return get_value(RunConfig{}, key); }

std::string allowed_values(const Key& key) {
  if (is_boolean(key)) return "True or False";
  if (std::holds_alternative<int64_t RunConfig::*>(key.member)) return "a whole number" + range_text(key.range);
  if (std::holds_alternative<std::optional<int64_t> RunConfig::*>(key.member)) {
    return "None or a whole number" + range_text(key.range);
  }
  if (std::holds_alternative<double RunConfig::*>(key.member)) return "a number" + range_text(key.range);
  std::vector<std::string> words = key.choices;
  if (key.is_form != nullptr) words.push_back(key.form);
  const std::string text = join_or(words);
  if (std::holds_alternative<std::vector<std::string> RunConfig::*>(key.member)) return text + ", or a list of them";
  return text;
}

}  // namespace power::config
