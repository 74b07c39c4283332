// Reading: finding, verifying and opening checkpoints.
#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <functional>
#include <future>
#include <tuple>
#include <utility>

#include "checkpoint/checkpoint.h"
#include "checkpoint/content_check.h"
#include "checkpoint/layout.h"
#include "checkpoint/tensor_file.h"
#include "core/error.h"
#include "core/file.h"

namespace power::checkpoint {
namespace fs = std::filesystem;

namespace {

constexpr std::string_view kStepPrefix = "step-";
constexpr size_t kStepDigits = 8;

bool is_tensor_file(const std::string& name) { return name.ends_with(".safetensors"); }

void verify_file(const fs::path& path, const ManifestFile& expected, std::atomic<int64_t>& done) {
  constexpr size_t kPiece = size_t{8} << 20;
  const MappedFile file(path);
  StreamHash hash;
  for (size_t begin = 0; begin < file.size(); begin += kPiece) {
    const size_t bytes = std::min(kPiece, file.size() - begin);
    hash.update(file.data() + begin, bytes);
    done += static_cast<int64_t>(bytes);
  }
  require(hash.hex() == expected.hash, ErrorKind::kData, path.string(), ": its content was changed: XXH3 is ",
          hash.hex(), ", the manifest says ", expected.hash, ": use another checkpoint of the run");
  if (is_tensor_file(path.filename().string())) check_safetensors_content(file.view(), path.string());
}

// Manifest and sizes.
Manifest check_sizes(const fs::path& folder) {
  Manifest manifest = read_manifest(folder);
  const std::optional<int64_t> step = parse_step_folder(folder.filename().string());
  require(!step || *step == manifest.step, ErrorKind::kData, folder.string(), ": its manifest is of step ",
          manifest.step, "; the folder was renamed");
  return manifest;
}

// All of it; the files are read at the same time.
Manifest check_wholly(const fs::path& folder, const Progress& progress) {
  Manifest manifest = check_sizes(folder);
  std::atomic<int64_t> done = 0;
  std::vector<std::future<void>> checks;
  for (const auto& [name, file] : manifest.files) {
    checks.push_back(std::async(std::launch::async, verify_file, folder / name, file, std::ref(done)));
  }
  for (std::future<void>& check : checks) {
    while (check.wait_for(std::chrono::milliseconds(50)) != std::future_status::ready) {
      if (progress) progress(done, manifest.total_bytes());
    }
  }
  for (std::future<void>& check : checks) check.get();
  return manifest;
}

// The folder that holds a run's checkpoints: `path`/ckpt, or `path` where it is that folder itself.
fs::path checkpoints_folder(const fs::path& path) {
  fs::path bare = path.lexically_normal();
  if (!bare.has_filename()) bare = bare.parent_path();  // a trailing slash
  return bare.filename() == kCheckpointsFolder && !fs::is_directory(bare / kCheckpointsFolder)
             ? bare
             : bare / kCheckpointsFolder;
}

// Tells a checkpoint, be it broken, from a run folder.
bool is_checkpoint(const fs::path& path) {
  if (fs::exists(path / kManifestName)) return true;
  const bool named_so =
      parse_step_folder(path.filename().string()) || path.parent_path().filename() == kCheckpointsFolder;
  return named_so && !fs::is_directory(path / kCheckpointsFolder);
}

Found inspect(const fs::path& folder, bool full, const Progress& progress = {}) {
  Found found;
  found.path = folder;
  found.step = parse_step_folder(folder.filename().string()).value_or(0);
  try {
    const Manifest manifest = full ? check_wholly(folder, progress) : check_sizes(folder);
    found.step = manifest.step;
    found.summary = manifest.summary;
    found.bytes = manifest.total_bytes();
  } catch (const std::exception& error) {
    found.problem = error.what();
  }
  return found;
}

}  // namespace

std::string step_folder_name(int64_t step) {
  std::string digits = std::to_string(step);
  if (digits.size() < kStepDigits) digits.insert(0, kStepDigits - digits.size(), '0');
  return std::string(kStepPrefix) + digits;
}

std::optional<int64_t> parse_step_folder(std::string_view name) {
  if (!name.starts_with(kStepPrefix)) return std::nullopt;
  name.remove_prefix(kStepPrefix.size());
  int64_t step = 0;
  const auto [end, status] = std::from_chars(name.data(), name.data() + name.size(), step);
  const bool valid = status == std::errc() && end == name.data() + name.size() && step >= 0 && name.front() != '-';
  return valid && name.size() >= kStepDigits ? std::optional(step) : std::nullopt;
}

std::vector<Found> list(const fs::path& run_dir, bool full) {
  std::vector<Found> all;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(checkpoints_folder(run_dir), error)) {
    if (entry.is_directory() && entry.path().extension() != kTemporarySuffix)
      all.push_back(inspect(entry.path(), full));
  }
  const auto rank = [](const Found& found) {
    const std::string name = found.path.filename().string();
    return std::tuple(parse_step_folder(name).has_value(), found.step, name);
  };
  std::sort(all.begin(), all.end(), [&](const Found& a, const Found& b) { return rank(a) < rank(b); });
  return all;
}

std::string verify(const fs::path& checkpoint_dir, const Progress& progress) {
  return inspect(checkpoint_dir, /*full=*/true, progress).problem;
}

std::optional<fs::path> resolve(const fs::path& path, const std::function<void(const Found&)>& skipped) {
  require(fs::is_directory(path), ErrorKind::kData, path.string(),
          ": no such folder; give a run folder or one checkpoint of it");
  if (is_checkpoint(path)) {
    check_wholly(path, {});
    return path;
  }
  std::vector<Found> found = list(path, /*full=*/false);
  for (auto checkpoint = found.rbegin(); checkpoint != found.rend(); ++checkpoint) {
    if (checkpoint->problem.empty()) checkpoint->problem = verify(checkpoint->path);
    if (checkpoint->problem.empty()) return checkpoint->path;
    if (skipped) skipped(*checkpoint);
  }
  require(found.empty(), ErrorKind::kData, path.string(), ": none of its ", found.size(),
          " checkpoints can be used; the newest: ", found.empty() ? "" : found.back().problem);
  return std::nullopt;
}

Reader::Reader(const fs::path& checkpoint_dir, const Progress& progress)
    : path_(checkpoint_dir), manifest_(check_wholly(checkpoint_dir, progress)) {}

bool Reader::has(const std::string& file) const { return manifest_.files.contains(file); }

std::vector<NamedTensor> Reader::read_tensors(const std::string& file) const {
  require(has(file), ErrorKind::kData, path_.string(), ": holds no file ", file);
  return read_tensor_file(path_ / file);
}

std::string Reader::read_text(const std::string& file) const {
  require(has(file), ErrorKind::kData, path_.string(), ": holds no file ", file);
  return read_file(path_ / file);
}

}  // namespace power::checkpoint
