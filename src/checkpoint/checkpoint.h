#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

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
  std::function<void(int64_t done, int64_t total)> progress;  // bytes written
};

// Writes one checkpoint and returns its folder. Tensors may be on any device. Refuses non-finite floating-point tensors
// with Error(kNonFinite). On any failure nothing but a .tmp folder was touched, and that is removed.
// `name` is the folder's name under RUN/ckpt; empty: "step-" and eight digits. A checkpoint of that name is replaced in
// one step (the two folders are exchanged), so that at any moment one of them is there. One process at a time may save.
std::filesystem::path save(const std::filesystem::path& run_dir, const Contents& contents,
                           const std::string& name = "");

struct Found {
  std::filesystem::path path;
  int64_t step = 0;
  nlohmann::json summary;
  int64_t bytes = 0;
  std::string problem;  // empty: valid (as far as it was checked)
};

// Every checkpoint of a run folder in the order of preference, best last: named ones (ckpt/best), then step ones, each
// by step. `full` also hashes the files and looks for values that are not finite, else manifest and sizes are checked.
std::vector<Found> list(const std::filesystem::path& run_dir, bool full);
// Checks one checkpoint wholly; the problem in words, or an empty string.
std::string verify(const std::filesystem::path& checkpoint_dir);
// `path` is a checkpoint, or a run folder whose newest valid checkpoint is meant; skipped ones are passed to `skipped`.
// Returns nullopt where a run folder has no checkpoint at all; throws Error(kData) where it has only broken ones or the
// path is not there. Named checkpoints count only where no step checkpoint is valid.
std::optional<std::filesystem::path> resolve(const std::filesystem::path& path,
                                             const std::function<void(const Found&)>& skipped = {});

// An opened, fully verified checkpoint. Tensors are read by name, on the CPU, as own copies.
class Reader {
 public:
  explicit Reader(const std::filesystem::path& checkpoint_dir);
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

struct TensorDifference {
  std::string file;
  std::string tensor;
  std::string what;            // "only in A", "only in B", "dtype F32 against F64", "shape [2] against [3]", "values"
  int64_t elements = 0;        // the rest for "values" only
  int64_t differing = 0;       // elements whose bits differ
  std::vector<int64_t> first;  // index of the first of them
  double first_a = 0;
  double first_b = 0;
  double largest = 0;  // largest |a - b|; 0 where only the sign of a zero differs
};

struct Difference {
  int64_t tensors = 0;  // compared, of both
  std::vector<TensorDifference> tensor_differences;
  std::vector<std::string> state_differences;          // step, and JSON files
  std::vector<std::string> configuration_differences;  // any other text: folders and the like may well differ

  // Weights, optimizer, generators and progress are bitwise the same.
  bool equal() const { return tensor_differences.empty() && state_differences.empty(); }
};

// Compares two checkpoints tensor by tensor; each is verified wholly first.
Difference diff(const std::filesystem::path& a, const std::filesystem::path& b);

}  // namespace power::checkpoint
