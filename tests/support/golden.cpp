#include "tests/support/golden.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>

#include "core/str.h"
#include "tests/support/paths.h"

namespace power::test {
namespace {

using nlohmann::json;

torch::Dtype dtype_of(const std::string& name) {
  static const std::map<std::string, torch::Dtype> types = {{"F64", torch::kFloat64}, {"F32", torch::kFloat32},
                                                            {"F16", torch::kFloat16}, {"BF16", torch::kBFloat16},
                                                            {"I64", torch::kInt64},   {"I32", torch::kInt32}};
  auto it = types.find(name);
  if (it == types.end()) throw std::runtime_error(str("golden file: unknown dtype ", name));
  return it->second;
}

json read_header(std::ifstream& in, const std::filesystem::path& file) {
  uint64_t length = 0;
  in.read(reinterpret_cast<char*>(&length), sizeof length);
  if (!in || length > (100u << 20)) throw std::runtime_error(str(file.string(), ": not a safetensors file"));
  std::string text(length, '\0');
  in.read(text.data(), static_cast<std::streamsize>(length));
  if (!in) throw std::runtime_error(str(file.string(), ": header is cut short"));
  return json::parse(text);
}

template <class Map>
const typename Map::mapped_type& at_or_throw(const Map& map, const std::string& key, const std::string& name) {
  auto it = map.find(key);
  if (it == map.end()) throw std::out_of_range(str("golden case ", name, " has no '", key, "'"));
  return it->second;
}

}  // namespace

const torch::Tensor& GoldenCase::tensor(const std::string& key) const { return at_or_throw(tensors, key, name); }
const std::string& GoldenCase::meta(const std::string& key) const { return at_or_throw(metadata, key, name); }
int64_t GoldenCase::meta_int(const std::string& key) const { return std::stoll(meta(key)); }
double GoldenCase::meta_double(const std::string& key) const { return std::stod(meta(key)); }
bool GoldenCase::meta_bool(const std::string& key) const { return meta(key) == "True"; }

GoldenCase read_golden(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) throw std::runtime_error(str("cannot open ", file.string()));
  const json header = read_header(in, file);
  const auto data_start = in.tellg();
  GoldenCase golden;
  golden.name = file.stem().string();
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") {
      golden.metadata = entry.get<std::map<std::string, std::string>>();
      continue;
    }
    const auto shape = entry.at("shape").get<std::vector<int64_t>>();
    const auto offsets = entry.at("data_offsets").get<std::vector<int64_t>>();
    torch::Tensor tensor = torch::empty(shape, dtype_of(entry.at("dtype").get<std::string>()));
    const auto bytes = static_cast<int64_t>(tensor.nbytes());
    if (offsets.size() != 2 || offsets[1] - offsets[0] != bytes) {
      throw std::runtime_error(str(file.string(), ": ", name, " spans other than its ", bytes, " bytes"));
    }
    in.seekg(data_start + static_cast<std::streamoff>(offsets[0]));
    in.read(static_cast<char*>(tensor.data_ptr()), bytes);
    if (!in) throw std::runtime_error(str(file.string(), ": ", name, " is cut short"));
    golden.tensors[name] = tensor;
  }
  return golden;
}

std::vector<std::filesystem::path> find_golden(const std::filesystem::path& folder, const std::string& kind) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".safetensors") continue;
    std::ifstream in(entry.path(), std::ios::binary);
    const json header = read_header(in, entry.path());
    if (header.value("__metadata__", json::object()).value("kind", "") == kind) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

std::vector<std::filesystem::path> golden_cases(const std::string& kind) {
  std::vector<std::filesystem::path> folders = {source_dir() / "tests" / "golden"};
  if (const char* extra = std::getenv("POWERTRAIN_GOLDEN_DIR")) folders.emplace_back(extra);
  std::vector<std::filesystem::path> all;
  std::set<std::string> seen;  // the folder named by the environment may hold the shipped cases too
  for (const auto& folder : folders) {
    const auto files = find_golden(folder, kind);
    if (files.empty()) throw std::runtime_error(str("no golden case of kind ", kind, " in ", folder.string()));
    for (const auto& file : files) {
      if (seen.insert(file.filename().string()).second) all.push_back(file);
    }
  }
  return all;
}

double relative_error(const torch::Tensor& x, const torch::Tensor& reference) {
  const torch::Tensor ref = reference.detach().to(torch::kCPU, torch::kFloat64);
  const double difference = (x.detach().to(torch::kCPU, torch::kFloat64) - ref).norm().item<double>();
  const double size = ref.norm().item<double>();
  return size > 0 ? difference / size : difference;
}

}  // namespace power::test
