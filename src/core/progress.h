#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace power {

// How far a long job is, on stderr: on a terminal one line redrawn ten times a second, otherwise a line every 10 s.
// Nothing where info lines are not shown (--quiet, ranks other than 0). Used by one thread.
class ProgressBar {
 public:
  // `unit` of `total`: "B" is written in powers of 1024, others ("tok") in powers of 1000. total 0: not known.
  ProgressBar(std::string label, int64_t total, std::string unit);
  // Removes a redrawn line, so that the next message starts at the left.
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  // Cheap enough to call for every item.
  void update(int64_t done);
  void set_total(int64_t total) { total_ = total; }

 private:
  using Clock = std::chrono::steady_clock;

  std::string label_, unit_;
  int64_t total_;
  enum class Style { kSilent, kRedraw, kLines } style_;
  Clock::time_point start_, next_;
  bool drawn_ = false;
};

// "tokenize  45% | 1.20 GiB of 2.67 GiB | 210 MiB/s | eta 7.2s"
std::string progress_line(const std::string& label, int64_t done, int64_t total, const std::string& unit,
                          double seconds);

}  // namespace power
