#include "checkpoint/manifest.h"

#include <algorithm>

#include "checkpoint/strict_json.h"
#include "core/error.h"
#include "core/file.h"

namespace power::checkpoint {
namespace fs = std::filesystem;
using nlohmann::json;

namespace {

constexpr const char* kFormat = "powertrain-checkpoint";
constexpr int64_t kVersion = 1;
constexpr size_t kMaxManifestBytes = size_t{1} << 20;

// The member `key`, which must be there and of type T.
template <class T>
T member(const json& object, const char* key, json::value_t type, const std::string& source) {
  const auto found = object.find(key);
  require(found != object.end() && found->type() == type, ErrorKind::kData, source, ": '", key,
          "' is missing or of the wrong type");
  return found->get<T>();
}

// nlohmann-json keeps numbers without a sign as unsigned; both spellings of an int64 are welcome, nothing else.
int64_t count_member(const json& object, const char* key, const std::string& source) {
  const auto number = member<uint64_t>(object, key, json::value_t::number_unsigned, source);
  require(number <= INT64_MAX, ErrorKind::kData, source, ": '", key, "' is ", number, ", too large");
  return static_cast<int64_t>(number);
}

bool is_hash(const std::string& text) {
  return text.size() == 32 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

// A regular file's size; links are refused, so that a checkpoint never reads outside its folder.
int64_t plain_file_size(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::symlink_status(path, error);
  require(fs::exists(status), ErrorKind::kData, path.string(), ": missing");
  require(fs::is_regular_file(status), ErrorKind::kData, path.string(),
          ": not a regular file; links out of a checkpoint are not followed");
  return static_cast<int64_t>(fs::file_size(path));
}

}  // namespace

int64_t Manifest::total_bytes() const {
  int64_t total = 0;
  for (const auto& [name, file] : files) total += file.bytes;
  return total;
}

bool is_plain_name(std::string_view name) {
  constexpr size_t kMaxLength = 100;
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '-' ||
           c == '_';
  };
  return !name.empty() && name.size() <= kMaxLength && name.front() != '.' &&
         std::all_of(name.begin(), name.end(), plain);
}

std::string manifest_text(const Manifest& manifest) {
  json content = {{"format", kFormat}, {"version", kVersion}, {"step", manifest.step}, {"summary", manifest.summary}};
  json& files = content["files"] = json::object();
  for (const auto& [name, file] : manifest.files) files[name] = {{"bytes", file.bytes}, {"xxh3_128", file.hash}};
  // Of everything else in the manifest, without white space; keys are sorted, numbers in their shortest form.
  const std::string bare = content.dump();
  content["manifest_xxh3_128"] = hash_bytes(bare.data(), bare.size());
  return content.dump(2) + "\n";
}

Manifest parse_manifest(std::string_view text, const std::string& source) {
  json content = parse_strict_json(text, source, kMaxManifestBytes);
  require(content.is_object(), ErrorKind::kData, source, ": not a JSON object");
  const auto format = member<std::string>(content, "format", json::value_t::string, source);
  require(format == kFormat, ErrorKind::kData, source, ": format '", printable(format), "' is not ", kFormat);
  const int64_t version = count_member(content, "version", source);
  require(version == kVersion, ErrorKind::kData, source, ": checkpoint format version ", version,
          ", this program reads version ", kVersion, "; use the version of powertrain that wrote it");
  const auto expected = member<std::string>(content, "manifest_xxh3_128", json::value_t::string, source);
  content.erase("manifest_xxh3_128");
  const std::string bare = content.dump();
  require(hash_bytes(bare.data(), bare.size()) == expected, ErrorKind::kData, source,
          ": the manifest was changed after it was written (its own hash differs)");

  Manifest manifest;
  manifest.step = count_member(content, "step", source);
  manifest.summary = content.value("summary", json());
  int64_t total = 0;
  for (const auto& [name, entry] : member<json::object_t>(content, "files", json::value_t::object, source)) {
    require(is_plain_name(name) && name != kManifestName, ErrorKind::kData, source, ": '", printable(name),
            "' is not a plain file name");
    require(entry.is_object(), ErrorKind::kData, source, ": entry of ", name, " is not an object");
    ManifestFile file;
    file.bytes = count_member(entry, "bytes", source);
    file.hash = member<std::string>(entry, "xxh3_128", json::value_t::string, source);
    require(is_hash(file.hash), ErrorKind::kData, source, ": hash of ", name, " is not 32 hexadecimal digits");
    require(!__builtin_add_overflow(total, file.bytes, &total), ErrorKind::kData, source, ": sizes are too large");
    manifest.files.emplace(name, std::move(file));
  }
  return manifest;
}

Manifest read_manifest(const fs::path& folder) {
  const fs::path path = folder / kManifestName;
  require(fs::is_directory(folder), ErrorKind::kData, folder.string(), ": no such checkpoint folder");
  plain_file_size(path);
  Manifest manifest = parse_manifest(read_file(path, kMaxManifestBytes), path.string());
  for (const auto& [name, file] : manifest.files) {
    const int64_t bytes = plain_file_size(folder / name);
    require(bytes == file.bytes, ErrorKind::kData, (folder / name).string(), ": ", bytes, " bytes, the manifest says ",
            file.bytes, bytes < file.bytes ? "; it is truncated" : "; it was changed",
            ": use another checkpoint of the run");
  }
  return manifest;
}

}  // namespace power::checkpoint
