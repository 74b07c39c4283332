#include "checkpoint/tensor_file.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <utility>

#include "checkpoint/content_check.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/strict_json.h"
#include "core/error.h"
#include "core/file.h"

namespace power::checkpoint {
namespace {

constexpr std::array<std::pair<const char*, torch::ScalarType>, 15> kDtypes = {{{"F32", torch::kFloat32},
                                                                                {"F64", torch::kFloat64},
                                                                                {"F16", torch::kFloat16},
                                                                                {"BF16", torch::kBFloat16},
                                                                                {"I64", torch::kInt64},
                                                                                {"I32", torch::kInt32},
                                                                                {"I16", torch::kInt16},
                                                                                {"I8", torch::kInt8},
                                                                                {"U8", torch::kUInt8},
                                                                                {"BOOL", torch::kBool},
                                                                                {"U16", torch::kUInt16},
                                                                                {"U32", torch::kUInt32},
                                                                                {"U64", torch::kUInt64},
                                                                                {"F8_E5M2", torch::kFloat8_e5m2},
                                                                                {"F8_E4M3", torch::kFloat8_e4m3fn}}};

// Hashed, checked and written while it is in the processor's cache.
constexpr size_t kPiece = size_t{1} << 20;

}  // namespace

std::string dtype_name(torch::Dtype dtype) {
  for (const auto& [name, type] : kDtypes) {
    if (type == dtype) return name;
  }
  fail(ErrorKind::kRuntime, "safetensors has no dtype for ", c10::toString(dtype));
}

torch::Dtype parse_dtype_name(const std::string& name, const std::string& source) {
  for (const auto& [known, type] : kDtypes) {
    if (known == name) return type;
  }
  fail(ErrorKind::kData, source, ": unknown dtype '", printable(name), "'");
}

int64_t tensor_bytes(const TensorFile& file) {
  int64_t bytes = 0;
  for (const NamedTensor& named : file.tensors) bytes += static_cast<int64_t>(named.tensor.nbytes());
  return bytes;
}

ManifestFile write_tensor_file(const std::filesystem::path& path, const TensorFile& file,
                               const std::function<void(int64_t bytes)>& advance) {
  std::vector<TensorEntry> entries;
  std::map<std::string, const torch::Tensor*> tensors;
  for (const NamedTensor& named : file.tensors) {
    require(named.tensor.defined() && named.tensor.layout() == torch::kStrided, ErrorKind::kRuntime, "tensor '",
            named.name, "' has no dense data to save");
    entries.push_back(
        {.name = named.name, .dtype = dtype_name(named.tensor.scalar_type()), .shape = named.tensor.sizes().vec()});
    tensors.emplace(named.name, &named.tensor);
  }
  const std::string header = layout_safetensors(entries, file.metadata);

  FileWriter writer(path);
  StreamHash hash;
  ManifestFile result;
  const auto put = [&](const char* data, size_t bytes) {
    hash.update(data, bytes);
    writer.write(data, bytes);
    result.bytes += static_cast<int64_t>(bytes);
    if (advance) advance(static_cast<int64_t>(bytes));
  };
  put(header.data(), header.size());
  for (const TensorEntry& entry : entries) {
    const torch::Tensor copy = tensors.at(entry.name)->detach().to(torch::kCPU).contiguous();
    const char* data = static_cast<const char*>(copy.const_data_ptr());
    const size_t total = copy.nbytes();
    for (size_t begin = 0; begin < total; begin += kPiece) {
      const size_t bytes = std::min(kPiece, total - begin);
      const int64_t bad = first_non_finite(entry.dtype, data + begin, bytes);
      require(bad < 0, ErrorKind::kNonFinite, "tensor '", entry.name, "' of ", file.name, ": element ",
              bad + static_cast<int64_t>(begin / copy.element_size()), " is not finite; not saved");
      put(data + begin, bytes);
    }
  }
  writer.close();
  result.hash = hash.hex();
  return result;
}

std::vector<NamedTensor> read_tensor_file(const std::filesystem::path& path) {
  const MappedFile file(path);
  const SafetensorsHeader header = parse_safetensors(file.view(), path.string());
  std::vector<NamedTensor> tensors;
  for (const TensorEntry& entry : header.tensors) {
    NamedTensor named{entry.name, torch::empty(entry.shape, parse_dtype_name(entry.dtype, path.string()))};
    if (entry.end > entry.begin) {
      std::memcpy(named.tensor.data_ptr(), file.data() + header.data_begin + entry.begin, entry.end - entry.begin);
    }
    tensors.push_back(std::move(named));
  }
  std::sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return tensors;
}

}  // namespace power::checkpoint
