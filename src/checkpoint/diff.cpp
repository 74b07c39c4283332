#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <set>

#include "checkpoint/checkpoint.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/strict_json.h"
#include "checkpoint/tensor_file.h"
#include "core/error.h"
#include "core/file.h"

namespace power::checkpoint {
namespace {

using nlohmann::json;

// A mapped safetensors file and its entries by name.
struct OpenFile {
  explicit OpenFile(const std::filesystem::path& path) : file(path) {
    const SafetensorsHeader header = parse_safetensors(file.view(), path.string());
    for (const TensorEntry& entry : header.tensors) {
      entries.emplace(entry.name, entry);
      data.emplace(entry.name, file.view().substr(header.data_begin + entry.begin, entry.end - entry.begin));
    }
  }

  MappedFile file;
  std::map<std::string, TensorEntry> entries;
  std::map<std::string, std::string_view> data;
};

// Element `count` elements from `begin` as doubles.
torch::Tensor values(std::string_view data, torch::Dtype dtype, int64_t begin, int64_t count) {
  torch::Tensor copy = torch::empty({count}, dtype);
  const size_t bytes = copy.element_size();
  std::memcpy(copy.data_ptr(), data.data() + static_cast<size_t>(begin) * bytes, copy.nbytes());
  return copy.to(torch::kFloat64);
}

std::vector<int64_t> unravel(int64_t index, const std::vector<int64_t>& shape) {
  std::vector<int64_t> result(shape.size());
  for (size_t i = shape.size(); i-- > 0;) {
    result[i] = index % shape[i];
    index /= shape[i];
  }
  return result;
}

void compare_values(const TensorEntry& entry, std::string_view a, std::string_view b, TensorDifference& difference) {
  const torch::Dtype dtype = parse_dtype_name(entry.dtype, entry.name);
  const size_t element = dtype_bytes(entry.dtype).value();
  const auto elements = static_cast<int64_t>(a.size() / element);
  difference.what = "values";
  difference.elements = elements;
  constexpr int64_t kPiece = 1 << 18;
  for (int64_t begin = 0; begin < elements; begin += kPiece) {
    const int64_t count = std::min(kPiece, elements - begin);
    const size_t offset = static_cast<size_t>(begin) * element;
    if (std::memcmp(a.data() + offset, b.data() + offset, static_cast<size_t>(count) * element) == 0) continue;
    for (int64_t i = begin; i < begin + count; ++i) {
      const size_t at = static_cast<size_t>(i) * element;
      if (std::memcmp(a.data() + at, b.data() + at, element) == 0) continue;
      if (difference.differing++ == 0) {
        difference.first = unravel(i, entry.shape);
        difference.first_a = values(a, dtype, i, 1).item<double>();
        difference.first_b = values(b, dtype, i, 1).item<double>();
      }
    }
    const torch::Tensor distance = (values(a, dtype, begin, count) - values(b, dtype, begin, count)).abs();
    difference.largest = std::max(difference.largest, distance.max().item<double>());
  }
}

std::string against(const char* what, const std::string& a, const std::string& b) {
  return str(what, ' ', a, " against ", b);
}

void compare_tensor_files(const std::string& name, const OpenFile& a, const OpenFile& b, Difference& result) {
  std::set<std::string> names;
  for (const auto& [tensor, entry] : a.entries) names.insert(tensor);
  for (const auto& [tensor, entry] : b.entries) names.insert(tensor);
  for (const std::string& tensor : names) {
    TensorDifference difference;
    difference.file = name;
    difference.tensor = tensor;
    if (!b.entries.contains(tensor)) {
      difference.what = "only in A";
    } else if (!a.entries.contains(tensor)) {
      difference.what = "only in B";
    } else {
      const TensorEntry& left = a.entries.at(tensor);
      const TensorEntry& right = b.entries.at(tensor);
      ++result.tensors;
      if (left.dtype != right.dtype) {
        difference.what = against("dtype", left.dtype, right.dtype);
      } else if (left.shape != right.shape) {
        difference.what = against("shape", json(left.shape).dump(), json(right.shape).dump());
      } else if (a.data.at(tensor) != b.data.at(tensor)) {
        compare_values(left, a.data.at(tensor), b.data.at(tensor), difference);
      }
    }
    if (!difference.what.empty()) result.tensor_differences.push_back(std::move(difference));
  }
}

void compare_text_files(const std::string& name, const std::string& a, const std::string& b, Difference& result) {
  if (a == b) return;
  if (!name.ends_with(".json")) {
    result.configuration_differences.push_back(name + " differs");
    return;
  }
  // One line for each key of the object: a value of it that differs, by its path ("/samples", "/losses/3").
  const json left = parse_strict_json(a, name).flatten();
  const json right = parse_strict_json(b, name).flatten();
  std::map<std::string, std::string> lines;
  for (const json* side : {&left, &right}) {
    for (const auto& [path, value] : side->items()) {
      const auto text = [&path](const json& all) {
        return all.contains(path) ? printable(all[path].dump()) : "absent";
      };
      if (text(left) == text(right)) continue;
      lines.emplace(path.substr(0, path.find('/', 1)),
                    str(name, ' ', printable(path), ": ", text(left), " against ", text(right)));
    }
  }
  if (lines.empty()) result.state_differences.push_back(name + " differs in its spelling only");
  for (const auto& [key, line] : lines) result.state_differences.push_back(line);
}

}  // namespace

Difference diff(const std::filesystem::path& a, const std::filesystem::path& b) {
  const Reader left(a);
  const Reader right(b);
  Difference result;
  if (left.step() != right.step()) {
    result.state_differences.push_back(against("step", std::to_string(left.step()), std::to_string(right.step())));
  }
  std::set<std::string> files;
  for (const auto& [name, file] : left.manifest().files) files.insert(name);
  for (const auto& [name, file] : right.manifest().files) files.insert(name);
  for (const std::string& name : files) {
    if (!left.has(name) || !right.has(name)) {
      result.state_differences.push_back(str("file ", name, " only in ", left.has(name) ? 'A' : 'B'));
    } else if (name.ends_with(".safetensors")) {
      compare_tensor_files(name, OpenFile(a / name), OpenFile(b / name), result);
    } else {
      compare_text_files(name, left.read_text(name), right.read_text(name), result);
    }
  }
  return result;
}

}  // namespace power::checkpoint
