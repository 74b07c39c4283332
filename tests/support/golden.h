#pragma once

#include <torch/types.h>

#include <filesystem>
#include <map>
#include <string>
#include <vector>

// Golden vectors: one safetensors file per case (8-byte little-endian header length, JSON header, raw tensors), made in
// float64 from the definitions. The small cases are in tests/golden; POWERTRAIN_GOLDEN_DIR names a folder with more.
namespace power::test {

struct GoldenCase {
  std::string name;  // the file's name without .safetensors
  std::map<std::string, std::string> metadata;
  std::map<std::string, torch::Tensor> tensors;  // in the file's dtype, on the CPU

  bool has(const std::string& tensor) const { return tensors.count(tensor) > 0; }
  // These throw std::out_of_range with the case's name and the missing key.
  const torch::Tensor& tensor(const std::string& key) const;
  const std::string& meta(const std::string& key) const;
  int64_t meta_int(const std::string& key) const;
  double meta_double(const std::string& key) const;
  bool meta_bool(const std::string& key) const;  // Python's True and False
};

GoldenCase read_golden(const std::filesystem::path& file);

// All *.safetensors files of `folder` whose metadata `kind` is the given one ("power_attention" or "gpt"), by name.
std::vector<std::filesystem::path> find_golden(const std::filesystem::path& folder, const std::string& kind);

// The cases a golden test runs: those of tests/golden, and those of the folder named by POWERTRAIN_GOLDEN_DIR where
// that is set. Throws where either holds no case of this kind, so that a test over nothing cannot pass.
std::vector<std::filesystem::path> golden_cases(const std::string& kind);

// ||x - ref|| / ||ref|| in float64 (Frobenius); ||x - ref|| where ref is zero.
double relative_error(const torch::Tensor& x, const torch::Tensor& reference);

}  // namespace power::test
