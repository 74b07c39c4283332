#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "config/run_config.h"
#include "data/dataset.h"
#include "data/tokenizer.h"
#include "model/gpt.h"
#include "optim/lr_schedule.h"

// From configuration values to the objects of the layers below.
namespace power::train {

// The model that `config` describes; the embedding has the tokenizer's vocabulary rounded up to a multiple of 64.
model::GptOptions gpt_options(const config::RunConfig& config, int64_t tokenizer_vocab_size);
// Shards of one split ("train" or "val"): DATA_ROOT/DATASET/SPLIT.bin, or where that is not there SPLIT*.bin.
std::vector<std::string> split_patterns(const config::RunConfig& config, const std::string& split);
// Opens shards that `tokenizer` must have made; Error(kData) where their manifest says otherwise.
data::Dataset open_dataset(const config::RunConfig& config, const std::vector<std::string>& patterns,
                           const data::Tokenizer& tokenizer);
// decay_lr=false: a constant rate without warm-up, as in nanoGPT.
optim::LrSchedule lr_schedule(const config::RunConfig& config);

}  // namespace power::train
