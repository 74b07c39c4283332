#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace power::data {

// What manifest.json says of one token file made by `data tokenize`.
struct ManifestEntry {
  std::string name;   // plain file name
  std::string split;  // "train" or "val"
  std::string tokenizer;
  int64_t vocab_size = 0;
  int64_t tokens = 0;
  int64_t documents = 0;
  int64_t text_bytes = 0;  // of the documents, separators not counted
  int64_t largest_id = 0;
  std::string xxh3_128;  // of the whole file, 32 hexadecimal digits
};

struct Manifest {
  std::string tokenizer;
  int64_t vocab_size = 0;
  std::string document;  // how the text was split: "file", "line" or "eot"
  double val_fraction = 0;
  uint64_t seed = 0;
  std::vector<std::string> inputs;  // file names without folders
  std::vector<ManifestEntry> files;
};

// Throws Error(kData) for text that is no manifest of ours; `name` is for the message.
Manifest parse_manifest(const std::string& text, const std::string& name);
std::string format_manifest(const Manifest& manifest);
// What the manifest.json in the file's folder says of it; nothing where there is none, where it is some other program's
// or where it does not list the file. A damaged one of ours throws Error(kData).
std::optional<ManifestEntry> manifest_entry_of(const std::filesystem::path& token_file);

}  // namespace power::data
