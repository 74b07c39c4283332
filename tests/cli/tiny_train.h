#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "tests/support/paths.h"

namespace power::test {

// The words of a training that takes milliseconds a step, on the shipped text and without evaluations.
inline std::vector<std::string> tiny_train(const std::filesystem::path& out_dir,
                                           const std::vector<std::string>& more = {}) {
  std::vector<std::string> words = {"train",          "--config=" + (source_dir() / "configs/tiny_cpu.yaml").string(),
                                    "--n_layer=1",    "--n_embd=16",
                                    "--n_head=1",     "--head_size=8",
                                    "--batch_size=1", "--block_size=16",
                                    "--disable_eval", "--out_dir=" + out_dir.string()};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

// Where the shipped text is.
inline std::string shipped_data() { return "--data_root=" + (source_dir() / "data").string(); }

}  // namespace power::test
