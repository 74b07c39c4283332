#include "train/run_state.h"

#include <torch/utils.h>

#include <map>
#include <nlohmann/json.hpp>

#include "checkpoint/strict_json.h"
#include "config/load.h"
#include "core/error.h"
#include "core/log.h"
#include "data/tokenizer.h"
#include "train/setup.h"

namespace power::train {
namespace {

constexpr const char* kModelFile = "model.safetensors";
constexpr const char* kOptimizerFile = "optimizer.safetensors";
constexpr const char* kScalerFile = "loss_scale.safetensors";  // fp16 only
constexpr const char* kRandomFile = "random.safetensors";
constexpr const char* kStateFile = "state.json";
constexpr const char* kConfigFile = "config.yaml";

std::vector<checkpoint::NamedTensor> named_tensors(const optim::NamedTensors& dict) {
  std::vector<checkpoint::NamedTensor> list;
  for (const auto& entry : dict) list.push_back({entry.key(), entry.value().detach()});
  return list;
}

optim::NamedTensors ordered_dict(const std::vector<checkpoint::NamedTensor>& list) {
  optim::NamedTensors dict;
  for (const checkpoint::NamedTensor& entry : list) dict.insert(entry.name, entry.tensor);
  return dict;
}

std::vector<torch::Generator> generators(torch::Device device) {
  std::vector<torch::Generator> all = {at::globalContext().defaultGenerator(torch::kCPU)};
  if (device.is_cuda()) all.push_back(at::globalContext().defaultGenerator(device));
  return all;
}

std::vector<checkpoint::NamedTensor> random_states(torch::Device device) {
  std::vector<checkpoint::NamedTensor> states;
  for (torch::Generator& generator : generators(device)) {
    const std::lock_guard<std::mutex> lock(generator.mutex());
    states.push_back({generator.device().is_cuda() ? "cuda" : "cpu", generator.get_state()});
  }
  return states;
}

void set_random_states(const std::vector<checkpoint::NamedTensor>& states, torch::Device device) {
  for (torch::Generator& generator : generators(device)) {
    const std::lock_guard<std::mutex> lock(generator.mutex());
    for (const checkpoint::NamedTensor& state : states) {
      // A run that moves between CPU and GPU keeps the seed's generator of the device that is new to it.
      if (state.name == (generator.device().is_cuda() ? "cuda" : "cpu")) generator.set_state(state.tensor);
    }
  }
}

nlohmann::json summary_of(const Progress& progress) {
  nlohmann::json json = {{"step", progress.step}, {"samples", progress.samples}, {"tokens", progress.tokens}};
  if (std::isfinite(progress.best_val_loss)) json["best_val_loss"] = progress.best_val_loss;
  return json;
}

nlohmann::json to_json(const Progress& progress) {
  nlohmann::json json = summary_of(progress);
  json["recent_losses"] = progress.recent_losses;
  return json;
}

Progress progress_from_json(const std::string& text) {
  try {
    const nlohmann::json json = checkpoint::parse_strict_json(text, kStateFile);
    Progress progress;
    json.at("step").get_to(progress.step);
    json.at("samples").get_to(progress.samples);
    json.at("tokens").get_to(progress.tokens);
    json.at("recent_losses").get_to(progress.recent_losses);
    if (json.contains("best_val_loss")) json.at("best_val_loss").get_to(progress.best_val_loss);
    require(progress.step >= 0 && progress.samples >= 0 && progress.tokens >= 0, ErrorKind::kData, kStateFile,
            ": negative counts; resume from another checkpoint");
    return progress;
  } catch (const nlohmann::json::exception& error) {
    fail(ErrorKind::kData, kStateFile, ": ", error.what(), "; resume from another checkpoint");
  }
}

}  // namespace

checkpoint::Contents capture(const config::RunConfig& config, const model::Gpt& model, const optim::AdamW& optimizer,
                             const std::optional<optim::LossScaler>& scaler, const Progress& progress,
                             torch::Device device) {
  checkpoint::Contents contents;
  contents.step = progress.step;
  checkpoint::TensorFile weights{kModelFile, named_tensors(model->named_parameters()), {{"format", "pt"}}};
  contents.tensor_files = {std::move(weights),
                           {kOptimizerFile, named_tensors(optimizer.state()), {}},
                           {kRandomFile, random_states(device), {}}};
  if (scaler) contents.tensor_files.push_back({kScalerFile, named_tensors(scaler->state()), {}});
  contents.text_files = {{kStateFile, to_json(progress).dump(2) + "\n"}, {kConfigFile, config::to_yaml(config)}};
  contents.summary = summary_of(progress);
  return contents;
}

Progress restore(const checkpoint::Reader& reader, model::Gpt& model, optim::AdamW& optimizer,
                 std::optional<optim::LossScaler>& scaler, torch::Device device) {
  load_weights(reader, model);
  optimizer.load_state(ordered_dict(reader.read_tensors(kOptimizerFile)));
  // A run that changes to fp16 starts with a fresh scale.
  if (scaler && reader.has(kScalerFile)) scaler->load_state(ordered_dict(reader.read_tensors(kScalerFile)));
  set_random_states(reader.read_tensors(kRandomFile), device);
  return progress_from_json(reader.read_text(kStateFile));
}

std::optional<std::filesystem::path> find_checkpoint(const std::filesystem::path& path) {
  return checkpoint::resolve(path, [](const checkpoint::Found& skipped) {
    log_warning("skipped ", skipped.path.string(), ": ", skipped.problem);
  });
}

checkpoint::Reader open_checkpoint(const std::string& path) {
  const auto found = find_checkpoint(path);
  require(found.has_value(), ErrorKind::kData, path, ": holds no checkpoint; a run folder has them under ckpt/");
  return checkpoint::Reader(*found);
}

config::RunConfig load_config(const checkpoint::Reader& reader) {
  return config::from_yaml(reader.read_text(kConfigFile), str("step ", reader.step(), ": ", kConfigFile));
}

model::Gpt load_model(const checkpoint::Reader& reader, const config::RunConfig& config, torch::Device device) {
  const auto tokenizer = data::make_tokenizer(config.tokenizer);
  model::Gpt model(gpt_options(config, tokenizer->vocab_size()));
  load_weights(reader, model);
  model->to(device);
  model->eval();
  return model;
}

void load_weights(const checkpoint::Reader& reader, model::Gpt& model) {
  const torch::NoGradGuard no_grad;
  std::map<std::string, torch::Tensor> found;
  for (checkpoint::NamedTensor& entry : reader.read_tensors(kModelFile)) found[entry.name] = entry.tensor;
  for (const auto& parameter : model->named_parameters()) {
    const auto entry = found.find(parameter.key());
    require(entry != found.end(), ErrorKind::kData, kModelFile, " of step ", reader.step(), " has no tensor ",
            parameter.key(), "; its config.yaml does not describe it: use another checkpoint");
    require(entry->second.sizes() == parameter.value().sizes(), ErrorKind::kData, kModelFile, " of step ",
            reader.step(), ": ", parameter.key(), " is ", entry->second.sizes(), ", the model needs ",
            parameter.value().sizes(), "; its config.yaml does not describe it: use another checkpoint");
    parameter.value().copy_(entry->second);
    found.erase(entry);
  }
  require(found.empty(), ErrorKind::kData, kModelFile, " of step ", reader.step(),
          " has a tensor the model lacks: ", found.empty() ? "" : found.begin()->first,
          "; its config.yaml does not describe it: use another checkpoint");
}

}  // namespace power::train
