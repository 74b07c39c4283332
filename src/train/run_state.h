#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "config/run_config.h"
#include "model/gpt.h"
#include "optim/adamw.h"
#include "optim/loss_scale.h"

namespace power::train {

// Where a run stands; with weights, optimizer and random generators it is all a resumed run needs.
struct Progress {
  int64_t step = 0;     // updates done
  int64_t samples = 0;  // training windows consumed, over all ranks
  int64_t tokens = 0;
  double best_val_loss = std::numeric_limits<double>::infinity();
  std::vector<double> recent_losses;  // SpikeGuard's window
};

// Files of a run's checkpoint: model.safetensors, optimizer.safetensors, random.safetensors (generators' states),
// state.json (Progress) and config.yaml (the resolved configuration: enough to rebuild the model).
checkpoint::Contents capture(const config::RunConfig& config, const model::Gpt& model, const optim::AdamW& optimizer,
                             const std::optional<optim::LossScaler>& scaler, const Progress& progress,
                             torch::Device device);

// Restores everything `capture` took, in place.
Progress restore(const checkpoint::Reader& reader, model::Gpt& model, optim::AdamW& optimizer,
                 std::optional<optim::LossScaler>& scaler, torch::Device device);

// checkpoint::resolve with a warning for each checkpoint it skips.
std::optional<std::filesystem::path> find_checkpoint(const std::filesystem::path& path);
// The checkpoint that find_checkpoint finds; throws Error(kData) where there is none.
checkpoint::Reader open_checkpoint(const std::string& path);

// A checkpoint's configuration, and its model ready for evaluation on `device`.
config::RunConfig load_config(const checkpoint::Reader& reader);
model::Gpt load_model(const checkpoint::Reader& reader, const config::RunConfig& config, torch::Device device);

// Copies the checkpoint's weights into the model. Throws Error(kData) naming the first parameter that is missing,
// unknown or of another shape.
void load_weights(const checkpoint::Reader& reader, model::Gpt& model);

}  // namespace power::train
