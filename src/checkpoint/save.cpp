// Writing: the commit protocol, and rotation.
#include <fcntl.h>
#include <stdio.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <set>

#include "checkpoint/checkpoint.h"
#include "checkpoint/layout.h"
#include "checkpoint/tensor_file.h"
#include "core/error.h"
#include "core/file.h"

namespace power::checkpoint {
namespace fs = std::filesystem;

namespace {

// Leftovers of a save or a rotation that was killed.
void remove_temporaries(const fs::path& folder) {
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == kTemporarySuffix) fs::remove_all(entry.path());
  }
}

void check_names(const Contents& contents, const std::string& name) {
  require(contents.step >= 0, ErrorKind::kRuntime, "checkpoint of step ", contents.step, ": steps begin at 0");
  require(is_plain_name(name) && !name.ends_with(kTemporarySuffix) && !name.ends_with(kReplacedSuffix),
          ErrorKind::kRuntime, "'", name, "' cannot be the name of a checkpoint");
  std::set<std::string> names = {kManifestName};
  const auto check = [&](const std::string& file) {
    require(is_plain_name(file) && names.insert(file).second, ErrorKind::kRuntime, "'", file,
            "' cannot be the name of a file in a checkpoint: not plain, or taken");
  };
  for (const TensorFile& file : contents.tensor_files) check(file.name);
  for (const TextFile& file : contents.text_files) check(file.name);
}

void write_files(const fs::path& folder, const Contents& contents) {
  int64_t total = 0;
  for (const TensorFile& file : contents.tensor_files) total += tensor_bytes(file);
  for (const TextFile& file : contents.text_files) total += static_cast<int64_t>(file.content.size());
  int64_t done = 0;
  const auto advance = [&](int64_t bytes) {
    done = std::min(done + bytes, total);  // headers come on top
    if (contents.progress) contents.progress(done, total);
  };

  Manifest manifest{.step = contents.step, .summary = contents.summary, .files = {}};
  for (const TensorFile& file : contents.tensor_files) {
    manifest.files[file.name] = write_tensor_file(folder / file.name, file, advance);
  }
  const auto write_text = [](const fs::path& path, const std::string& text) {
    FileWriter writer(path);
    writer.write(text);
    writer.close();
  };
  for (const TextFile& file : contents.text_files) {
    write_text(folder / file.name, file.content);
    manifest.files[file.name] = {static_cast<int64_t>(file.content.size()),
                                 hash_bytes(file.content.data(), file.content.size())};
    advance(static_cast<int64_t>(file.content.size()));
  }
  write_text(folder / kManifestName, manifest_text(manifest));
  sync_directory(folder);
}

// Puts the complete folder `temporary` where `target` is or will be; what was there ends up removed.
void commit(const fs::path& temporary, const fs::path& target) {
  const fs::path parent = target.parent_path();
  fs::path replaced = target;
  replaced += kReplacedSuffix;
  if (!fs::exists(fs::symlink_status(target))) {
    fs::rename(temporary, target);
    sync_directory(parent);
  } else if (::renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, target.c_str(), RENAME_EXCHANGE) == 0) {
    sync_directory(parent);
    fs::remove_all(temporary);
  } else {
    // Some network file systems cannot exchange. A kill between the two renames leaves the old one under `replaced`,
    // which list() and resolve() know.
    require(errno == EINVAL || errno == ENOSYS || errno == ENOTSUP, ErrorKind::kRuntime, target.string(),
            ": cannot be replaced: ", std::strerror(errno));
    fs::remove_all(replaced);
    fs::rename(target, replaced);
    fs::rename(temporary, target);
    sync_directory(parent);
  }
  fs::remove_all(replaced);
}

}  // namespace

fs::path save(const fs::path& run_dir, const Contents& contents, const std::string& name) {
  const std::string folder_name = name.empty() ? step_folder_name(contents.step) : name;
  check_names(contents, folder_name);
  const fs::path parent = run_dir / kCheckpointsFolder;
  const fs::path target = parent / folder_name;
  fs::path temporary = target;
  temporary += kTemporarySuffix;
  bool created_parent = false;
  try {
    created_parent = fs::create_directories(parent);
    if (created_parent) sync_directory(run_dir);
    remove_temporaries(parent);
    fs::create_directory(temporary);
    write_files(temporary, contents);
    commit(temporary, target);
  } catch (const std::exception& error) {
    std::error_code ignored;
    fs::remove_all(temporary, ignored);
    if (created_parent) fs::remove(parent, ignored);  // only where it is empty
    const auto* known = dynamic_cast<const Error*>(&error);
    fail(known != nullptr ? known->kind() : ErrorKind::kRuntime, "checkpoint ", target.string(),
         " was not saved: ", error.what());
  }
  return target;
}

void rotate(const fs::path& run_dir, int64_t keep_last) {
  std::vector<Found> found = list(run_dir, /*full=*/false);
  std::reverse(found.begin(), found.end());
  int64_t kept = 0;
  bool proven = false;  // a checkpoint that stays was read and hashed wholly
  for (const Found& checkpoint : found) {
    if (!parse_step_folder(checkpoint.path.filename().string()) || fs::is_symlink(checkpoint.path)) continue;
    if (proven && kept >= keep_last) {
      // Renamed first: a kill during the removal leaves a temporary folder, not a broken checkpoint.
      fs::path temporary = checkpoint.path;
      temporary += kTemporarySuffix;
      fs::remove_all(temporary);
      fs::rename(checkpoint.path, temporary);
      fs::remove_all(temporary);
      continue;
    }
    if (!checkpoint.problem.empty() || (!proven && !verify(checkpoint.path).empty())) continue;
    proven = true;
    ++kept;
  }
}

}  // namespace power::checkpoint
