#include "data/scan_cache.h"

#include <cstdlib>
#include <exception>
#include <sstream>
#include <string>

#include "core/file.h"
#include "core/str.h"

namespace power::data {
namespace fs = std::filesystem;

namespace {

fs::path cache_folder() {
  for (const auto& [variable, below] : {std::pair{"XDG_CACHE_HOME", "powertrain"}, {"HOME", ".cache/powertrain"}}) {
    const char* value = std::getenv(variable);
    if (value != nullptr && value[0] == '/') return fs::path(value) / below;
  }
  return {};
}

struct Entry {
  fs::path file;    // empty: no cache
  std::string key;  // what the entry must say of the shard
};

Entry entry_of(const Shard& shard) {
  const fs::path folder = cache_folder();
  if (folder.empty()) return {};
  const std::string path = fs::canonical(shard.path()).string();
  return {folder / ("scan-" + hash_bytes(path.data(), path.size())),
          str(shard.file_bytes(), " ", shard.mtime_ns(), " ")};
}

}  // namespace

std::optional<int64_t> cached_largest_id(const Shard& shard) {
  try {
    const Entry entry = entry_of(shard);
    if (entry.file.empty() || !fs::is_regular_file(entry.file)) return std::nullopt;
    const std::string text = read_file(entry.file, 1024);
    if (text.compare(0, entry.key.size(), entry.key) != 0) return std::nullopt;
    std::istringstream rest(text.substr(entry.key.size()));
    int64_t largest_id = -1;
    if (!(rest >> largest_id) || largest_id < 0) return std::nullopt;
    return largest_id;
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

void remember_largest_id(const Shard& shard, int64_t largest_id) {
  try {
    const Entry entry = entry_of(shard);
    if (entry.file.empty()) return;
    fs::create_directories(entry.file.parent_path());
    write_file_atomic(entry.file, str(entry.key, largest_id, "\n"));
  } catch (const std::exception&) {
    // A read-only or full home folder must not stop a run.
  }
}

}  // namespace power::data
