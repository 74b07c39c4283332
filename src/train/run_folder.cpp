#include "train/run_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/error.h"

namespace power::train {
namespace fs = std::filesystem;

RunFolder::RunFolder(const fs::path& path) : path_(path.lexically_normal()) {
  if (!path_.has_filename()) path_ = path_.parent_path();  // a trailing slash
  lock();
}

RunFolder::~RunFolder() {
  if (lock_fd_ >= 0) ::close(lock_fd_);
}

void RunFolder::lock() {
  std::error_code error;
  fs::create_directories(path_, error);
  require(fs::is_directory(path_), ErrorKind::kRuntime, path_.string(),
          ": cannot create the run folder: ", error.message());
  const fs::path file = path_ / "lock";
  lock_fd_ = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  require(lock_fd_ >= 0, ErrorKind::kRuntime, file.string(), ": cannot be created: ", std::strerror(errno));
  require(::flock(lock_fd_, LOCK_EX | LOCK_NB) == 0, ErrorKind::kUsage, path_.string(),
          ": another trainer is writing to this run folder; stop it, or choose another --out_dir");
}

bool RunFolder::holds_checkpoints(const fs::path& path) {
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(path / "ckpt", error)) {
    if (entry.is_directory() && entry.path().extension() != ".tmp") return true;
  }
  return false;
}

bool RunFolder::has_old_run() const {
  for (const fs::directory_entry& entry : fs::directory_iterator(path_)) {
    if (entry.path().filename() != "lock") return true;
  }
  return false;
}

fs::path RunFolder::move_aside() {
  fs::path aside;
  for (int n = 1; aside.empty() || fs::exists(aside); ++n) {
    aside = path_;
    aside += ".old-" + std::to_string(n);
  }
  fs::rename(path_, aside);
  ::close(lock_fd_);
  lock_fd_ = -1;
  lock();
  return aside;
}

}  // namespace power::train
