#pragma once

#include <filesystem>
#include <string>

namespace power::train {

// The folder of one run: config.yaml, env.json, metrics.jsonl, tb/, log/, ckpt/, loss.svg.
class RunFolder {
 public:
  // Creates the folder and takes its lock; the lock goes with the process, however it ends.
  // Throws Error(kUsage) where another trainer holds it.
  explicit RunFolder(const std::filesystem::path& path);
  ~RunFolder();
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  // True where a run folder holds a checkpoint, finished or broken.
  static bool holds_checkpoints(const std::filesystem::path& path);
  // True where anything but the lock is in the folder.
  bool has_old_run() const;
  // Moves everything of the old run into PATH/../NAME.old-N (the first N that is free) and returns that folder.
  std::filesystem::path move_aside();

 private:
  void lock();

  std::filesystem::path path_;
  int lock_fd_ = -1;
};

}  // namespace power::train
