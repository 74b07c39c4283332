#pragma once

#include <torch/types.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/manifest.h"

// LibTorch tensors to and from safetensors files.
namespace power::checkpoint {

// The safetensors spelling of a dtype; Error(kRuntime) where the format has none (complex, quantized).
std::string dtype_name(torch::Dtype dtype);
// The reverse; Error(kData) where LibTorch has none.
torch::Dtype parse_dtype_name(const std::string& name, const std::string& source);

// Bytes of the tensors' data.
int64_t tensor_bytes(const TensorFile& file);

// Writes and flushes one file, copying one tensor at a time to the CPU; hashes the bytes on the way. Throws
// Error(kNonFinite) at the first value that is not finite. `advance` receives the bytes of each piece written.
ManifestFile write_tensor_file(const std::filesystem::path& path, const TensorFile& file,
                               const std::function<void(int64_t bytes)>& advance);

// Every tensor of a safetensors file as an own CPU copy, in the order of their names.
std::vector<NamedTensor> read_tensor_file(const std::filesystem::path& path);

}  // namespace power::checkpoint
