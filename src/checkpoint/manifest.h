#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

// manifest.json, the last file written into a checkpoint: what must be there, with sizes and hashes. LibTorch-free.
namespace power::checkpoint {

inline constexpr const char* kManifestName = "manifest.json";

struct ManifestFile {
  int64_t bytes = 0;
  std::string hash;  // XXH3-128 of the content, 32 hexadecimal digits
};

struct Manifest {
  int64_t step = 0;
  nlohmann::json summary;
  std::map<std::string, ManifestFile> files;

  int64_t total_bytes() const;
};

// True for a name that can only mean a file in its own folder: letters, digits, '.', '-', '_', not beginning with '.'.
bool is_plain_name(std::string_view name);

std::string manifest_text(const Manifest& manifest);
// Throws Error(kData) unless it is a manifest of this format version, unchanged since it was written.
Manifest parse_manifest(std::string_view text, const std::string& source);

// Reads the manifest of a checkpoint folder and checks that each file is there, is a file and not a link, and has its
// size. Throws Error(kData). Costs no more than a few system calls.
Manifest read_manifest(const std::filesystem::path& folder);

}  // namespace power::checkpoint
