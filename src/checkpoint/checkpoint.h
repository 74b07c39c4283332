#pragma once

#include <torch/types.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "checkpoint/inspect.h"
#include "checkpoint/manifest.h"

// Checkpoints: a folder RUN/ckpt/step-00001000 of safetensors and text files with a manifest of sizes and hashes.
// Commit: write step-N.tmp, fsync every file, write the manifest, fsync, rename to step-N, fsync the parent. A kill at
// any point leaves earlier checkpoints and at most one .tmp folder, which is ignored and removed by the next save.
namespace power::checkpoint {

struct NamedTensor {
  std::string name;
  torch::Tensor tensor;
};

struct TensorFile {
  std::string name;  // a plain file name, e.g. "model.safetensors"
  std::vector<NamedTensor> tensors;
  std::map<std::string, std::string> metadata;
};

struct TextFile {
  std::string name;  // e.g. "state.json"
  std::string content;
};

struct Contents {
  int64_t step = 0;
  std::vector<TensorFile> tensor_files;
  std::vector<TextFile> text_files;
  nlohmann::json summary;  // shown by `ckpt ls`: a few scalars, e.g. tokens, val_loss
  Progress progress;       // bytes written
};

// Writes one checkpoint and returns its folder. Tensors may be on any device. Refuses non-finite floating-point tensors
// with Error(kNonFinite). On any failure nothing but a .tmp folder was touched, and that is removed.
// `name` is the folder's name under RUN/ckpt; empty: "step-" and eight digits. A checkpoint of that name is replaced in
// one step (the two folders are exchanged), so that at any moment one of them is there. One process at a time may save.
std::filesystem::path save(const std::filesystem::path& run_dir, const Contents& contents,
                           const std::string& name = "");

// An opened, fully verified checkpoint. Tensors are read by name, on the CPU, as own copies.
class Reader {
 public:
  explicit Reader(const std::filesystem::path& checkpoint_dir, const Progress& progress = {});
  const std::filesystem::path& path() const { return path_; }
  int64_t step() const { return manifest_.step; }
  const nlohmann::json& summary() const { return manifest_.summary; }
  const Manifest& manifest() const { return manifest_; }
  // In the order of their names. Throws Error(kData) where the checkpoint has no such file.
  std::vector<NamedTensor> read_tensors(const std::string& file) const;
  std::string read_text(const std::string& file) const;
  bool has(const std::string& file) const;

 private:
  std::filesystem::path path_;
  Manifest manifest_;
};

// Deletes step checkpoints older than the newest `keep_last` valid ones; never the last valid one (whose content is
// hashed before anything is deleted), never named ones.
void rotate(const std::filesystem::path& run_dir, int64_t keep_last);

}  // namespace power::checkpoint
