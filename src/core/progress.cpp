#include "core/progress.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "core/format.h"
#include "core/log.h"

namespace power {
namespace {

constexpr std::chrono::milliseconds kRedrawInterval(100);
constexpr std::chrono::seconds kLineInterval(10);

std::string quantity(double value, const std::string& unit) {
  return unit == "B" ? format_bytes(value) : format_count(value, unit.c_str());
}

}  // namespace

std::string progress_line(const std::string& label, int64_t done, int64_t total, const std::string& unit,
                          double seconds) {
  const double rate = seconds > 0 ? static_cast<double>(done) / seconds : 0;
  std::string line = label;
  if (total > 0) {
    const double fraction = std::clamp(static_cast<double>(done) / static_cast<double>(total), 0.0, 1.0);
    line += format_number(" %3.0f%%", 100 * fraction);
  }
  line += " | " + quantity(static_cast<double>(done), unit);
  if (total > 0) line += " of " + quantity(static_cast<double>(total), unit);
  line += " | " + quantity(rate, unit) + "/s";
  if (total > 0 && rate > 0) {
    line += " | eta " + format_duration(static_cast<double>(std::max<int64_t>(total - done, 0)) / rate);
  }
  return line;
}

ProgressBar::ProgressBar(std::string label, int64_t total, std::string unit)
    : label_(std::move(label)), unit_(std::move(unit)), total_(total), start_(Clock::now()) {
  style_ = log_is_quiet() ? Style::kSilent : stderr_is_terminal() ? Style::kRedraw : Style::kLines;
  // A job that ends within the first interval shows nothing.
  next_ = start_ + (style_ == Style::kRedraw ? Clock::duration(kRedrawInterval) : Clock::duration(kLineInterval));
}

ProgressBar::~ProgressBar() {
  if (drawn_) std::fputs("\r\033[K", stderr);
}

void ProgressBar::update(int64_t done) {
  if (style_ == Style::kSilent) return;
  const Clock::time_point now = Clock::now();
  if (now < next_) return;
  const std::string line =
      progress_line(label_, done, total_, unit_, std::chrono::duration<double>(now - start_).count());
  if (style_ == Style::kLines) {
    next_ = now + kLineInterval;
    log_info(line);
    return;
  }
  next_ = now + kRedrawInterval;
  drawn_ = true;
  std::fputs(("\r" + line + "\033[K").c_str(), stderr);
  std::fflush(stderr);
}

}  // namespace power
