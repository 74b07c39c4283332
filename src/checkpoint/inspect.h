#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

// Finding, checking and comparing checkpoints; this header needs no LibTorch.
namespace power::checkpoint {

using Progress = std::function<void(int64_t done, int64_t total)>;  // bytes; called by the thread that waits

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
std::string verify(const std::filesystem::path& checkpoint_dir, const Progress& progress = {});
// `path` is a checkpoint, or a run folder whose newest valid checkpoint is meant; skipped ones are passed to `skipped`.
// Returns nullopt where a run folder has no checkpoint at all; throws Error(kData) where it has only broken ones or the
// path is not there. Named checkpoints count only where no step checkpoint is valid.
std::optional<std::filesystem::path> resolve(const std::filesystem::path& path,
                                             const std::function<void(const Found&)>& skipped = {});

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
