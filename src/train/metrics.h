#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace power::train {

// RUN/metrics.jsonl: one JSON object a line, one history of the run across restarts. Training lines hold step, loss,
// grad_norm, lr, step_ms, tokens_per_s, mfu (null where unknown), tokens; validation lines step, val_loss, tokens;
// every line the time in seconds since 1970. Numbers are written so that reading them gives the same bits back.
class MetricsLog {
 public:
  // Drops what a continuation from `resumed_step` will write again: lines of later steps, and a last line cut by a
  // crash. From step 0 the history begins anew. The file is replaced as a whole, so a kill leaves the old or the new
  // one.
  explicit MetricsLog(const std::filesystem::path& path, int64_t resumed_step = 0);
  ~MetricsLog();
  MetricsLog(const MetricsLog&) = delete;
  MetricsLog& operator=(const MetricsLog&) = delete;

  // Adds one line, keys in the given order, and the time. Where the disk is full the run goes on: a warning, and the
  // lines are kept in memory until there is room.
  void append(nlohmann::ordered_json line);

 private:
  bool flush();

  std::filesystem::path path_;
  int fd_ = -1;
  std::string pending_;
  bool warned_ = false;
};

struct MetricsPoint {
  int64_t step = 0;
  int64_t tokens = 0;  // 0: not recorded
  double loss = 0;
};

struct MetricsHistory {
  std::vector<MetricsPoint> training;
  std::vector<MetricsPoint> validation;
};

// Reads a metrics.jsonl; lines that hold no finite loss are left out, and so is a last line that is not complete.
// Throws Error(kData) naming the line where any other is not a JSON object with a step.
MetricsHistory read_metrics(const std::filesystem::path& path);

}  // namespace power::train
