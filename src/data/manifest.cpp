#include "data/manifest.h"

#include <limits>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/file.h"

namespace power::data {
namespace fs = std::filesystem;
using nlohmann::json;

namespace {

constexpr const char* kFormat = "powertrain tokens";
constexpr int kVersion = 1;
constexpr size_t kMaxBytes = 16 << 20;

// Typed access with the manifest's name in the message; counts are never negative.
class Reader {
 public:
  Reader(const json& object, const std::string& name) : object_(object), name_(name) {
    require(object.is_object(), ErrorKind::kData, name, ": expected a JSON object, found ", object.type_name());
  }
  std::string text(const char* key) const {
    const json& value = at(key);
    require(value.is_string(), ErrorKind::kData, name_, ": \"", key, "\" must be a string");
    return value.get<std::string>();
  }
  int64_t count(const char* key) const {
    const json& value = at(key);
    require(value.is_number_unsigned() &&
                value.get<uint64_t>() <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max()),
            ErrorKind::kData, name_, ": \"", key, "\" must be a whole number of at least 0");
    return value.get<int64_t>();
  }
  const json& list(const char* key) const {
    const json& value = at(key);
    require(value.is_array(), ErrorKind::kData, name_, ": \"", key, "\" must be a list");
    return value;
  }
  const json& at(const char* key) const {
    const auto found = object_.find(key);
    require(found != object_.end(), ErrorKind::kData, name_, ": \"", key, "\" is missing");
    return *found;
  }

 private:
  const json& object_;
  const std::string& name_;
};

bool is_plain_name(const std::string& name) {
  return !name.empty() && name[0] != '.' && name.find('/') == std::string::npos && name.find('\0') == std::string::npos;
}

bool is_ours(const json& root) { return root.is_object() && root.contains("format") && root["format"] == kFormat; }

Manifest from_json(const json& root, const std::string& name) {
  require(is_ours(root), ErrorKind::kData, name, ": not a manifest of token files (\"format\" must be \"", kFormat,
          "\")");
  const Reader reader(root, name);
  require(reader.count("version") == kVersion, ErrorKind::kData, name, ": version ", reader.count("version"),
          ", this program reads version ", kVersion);
  Manifest manifest;
  manifest.tokenizer = reader.text("tokenizer");
  manifest.vocab_size = reader.count("vocab_size");
  manifest.document = reader.text("document");
  const json& fraction = reader.at("val_fraction");
  require(fraction.is_number(), ErrorKind::kData, name, ": \"val_fraction\" must be a number");
  manifest.val_fraction = fraction.get<double>();
  manifest.seed = static_cast<uint64_t>(reader.count("seed"));
  for (const json& input : reader.list("inputs")) {
    require(input.is_string(), ErrorKind::kData, name, ": \"inputs\" must hold file names");
    manifest.inputs.push_back(input.get<std::string>());
  }
  for (const json& file : reader.list("files")) {
    const Reader fields(file, name);
    ManifestEntry entry;
    entry.name = fields.text("name");
    require(is_plain_name(entry.name), ErrorKind::kData, name, ": file name \"", entry.name,
            "\" must be plain, without folders");
    entry.split = fields.text("split");
    entry.tokenizer = manifest.tokenizer;
    entry.vocab_size = manifest.vocab_size;
    entry.tokens = fields.count("tokens");
    entry.documents = fields.count("documents");
    entry.text_bytes = fields.count("text_bytes");
    entry.largest_id = fields.count("largest_id");
    entry.xxh3_128 = fields.text("xxh3_128");
    manifest.files.push_back(std::move(entry));
  }
  return manifest;
}

json parse_json(const std::string& text, const std::string& name) {
  try {
    return json::parse(text);
  } catch (const json::exception& error) {
    fail(ErrorKind::kData, name, ": not JSON: ", error.what());
  }
}

}  // namespace

Manifest parse_manifest(const std::string& text, const std::string& name) {
  require(text.size() <= kMaxBytes, ErrorKind::kData, name, ": ", text.size(), " bytes, at most ", kMaxBytes,
          " are read");
  return from_json(parse_json(text, name), name);
}

std::string format_manifest(const Manifest& manifest) {
  nlohmann::ordered_json root = {{"format", kFormat},
                                 {"version", kVersion},
                                 {"tokenizer", manifest.tokenizer},
                                 {"vocab_size", manifest.vocab_size},
                                 {"document", manifest.document},
                                 {"val_fraction", manifest.val_fraction},
                                 {"seed", manifest.seed},
                                 {"inputs", manifest.inputs},
                                 {"files", nlohmann::ordered_json::array()}};
  for (const ManifestEntry& entry : manifest.files) {
    root["files"].push_back({{"name", entry.name},
                             {"split", entry.split},
                             {"tokens", entry.tokens},
                             {"documents", entry.documents},
                             {"text_bytes", entry.text_bytes},
                             {"largest_id", entry.largest_id},
                             {"xxh3_128", entry.xxh3_128}});
  }
  return root.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

std::optional<ManifestEntry> manifest_entry_of(const fs::path& token_file) {
  const fs::path path = token_file.parent_path() / "manifest.json";
  std::error_code ignored;
  if (!fs::is_regular_file(path, ignored) || fs::file_size(path, ignored) > kMaxBytes) return std::nullopt;
  const std::string text = read_file(path, kMaxBytes);
  // A manifest.json may belong to another program; only one that names our format is held to it.
  const json root = json::parse(text, nullptr, false);
  if (!is_ours(root)) return std::nullopt;
  for (ManifestEntry& entry : from_json(root, path.string()).files) {
    if (entry.name == token_file.filename().string()) return std::move(entry);
  }
  return std::nullopt;
}

}  // namespace power::data
