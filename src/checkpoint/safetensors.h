#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

// The safetensors container, without LibTorch: 8 bytes little-endian length of the header, the header (JSON: tensor
// name
// -> dtype, shape, data_offsets), then the tensors' bytes, row-major and little-endian.
namespace power::checkpoint {

struct TensorEntry {
  std::string name;
  std::string dtype;  // as the format spells it: "F32", "BF16", "I64", ...
  std::vector<int64_t> shape;
  size_t begin = 0;  // bytes from the start of the data
  size_t end = 0;
};

struct SafetensorsHeader {
  std::vector<TensorEntry> tensors;  // in the order of their data
  std::map<std::string, std::string> metadata;
  size_t data_begin = 0;  // bytes from the start of the file
};

// Bytes of one element; nullopt where the format has no such dtype.
std::optional<size_t> dtype_bytes(std::string_view dtype);

// Reads and checks the header of a whole file given as bytes. Throws Error(kData) unless the header is at most 100 MB
// of valid JSON, no name comes twice, every dtype is known, shape x element size is the span of the data, and the spans
// cover the rest of the file exactly, without overlap or hole. `source` names the file in messages.
SafetensorsHeader parse_safetensors(std::string_view file, const std::string& source);

// Gives each entry its span, largest element size first so that every tensor is aligned, sorts `tensors` by it, and
// returns the first bytes of the file: length and header, padded with spaces to a multiple of 64.
std::string layout_safetensors(std::vector<TensorEntry>& tensors, const std::map<std::string, std::string>& metadata);

}  // namespace power::checkpoint
