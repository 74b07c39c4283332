#pragma once

#include <string>

#include "core/str.h"

// Log and progress go to stderr; results go to stdout and never through here.
// spdlog stays inside log.cpp: its system headers need an older fmt than the one LibTorch bundles.
namespace power {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

// Ranks other than 0 print warnings and errors only, each line with its rank.
void set_log_rank(int rank, int world_size);
// Suppresses info lines on the console (files keep them).
void set_log_quiet(bool quiet);
// Appends every line of this process to `path`, created with its folder.
void add_log_file(const std::string& path);
void log_message(LogLevel level, const std::string& message);

template <class... Args>
void log_debug(const Args&... args) {
  log_message(LogLevel::kDebug, str(args...));
}
template <class... Args>
void log_info(const Args&... args) {
  log_message(LogLevel::kInfo, str(args...));
}
template <class... Args>
void log_warning(const Args&... args) {
  log_message(LogLevel::kWarning, str(args...));
}
template <class... Args>
void log_error(const Args&... args) {
  log_message(LogLevel::kError, str(args...));
}

// True where colour and redrawn lines are welcome: stderr is a terminal and NO_COLOR is unset.
bool stderr_is_terminal();
bool stderr_wants_color();
// True where info lines do not reach the console: --quiet, or a rank other than 0.
bool log_is_quiet();

}  // namespace power
