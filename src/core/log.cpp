#include "core/log.h"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <memory>

namespace power {
namespace {

struct Logger {
  std::shared_ptr<spdlog::sinks::stderr_color_sink_mt> console =
      std::make_shared<spdlog::sinks::stderr_color_sink_mt>();
  std::shared_ptr<spdlog::logger> logger = std::make_shared<spdlog::logger>("powertrain", console);
  int rank = 0;
  bool quiet = false;

  Logger() {
    logger->set_level(spdlog::level::info);
    logger->flush_on(spdlog::level::info);
    console->set_pattern("%^%v%$");
    console->set_color_mode(stderr_wants_color() ? spdlog::color_mode::always : spdlog::color_mode::never);
    console->set_color(spdlog::level::info, console->reset);
    update();
  }
  void update() { console->set_level(quiet || rank != 0 ? spdlog::level::warn : spdlog::level::info); }
};

Logger& instance() {
  static Logger logger;
  return logger;
}

}  // namespace

bool stderr_is_terminal() { return isatty(STDERR_FILENO) == 1; }

bool stderr_wants_color() { return stderr_is_terminal() && std::getenv("NO_COLOR") == nullptr; }

bool log_is_quiet() { return instance().quiet || instance().rank != 0; }

void set_log_rank(int rank, int world_size) {
  Logger& log = instance();
  log.rank = rank;
  if (world_size > 1) log.console->set_pattern("[" + std::to_string(rank) + "] %^%v%$");
  log.update();
}

void set_log_quiet(bool quiet) {
  instance().quiet = quiet;
  instance().update();
}

void add_log_file(const std::string& path) {
  const std::filesystem::path parent = std::filesystem::path(path).parent_path();
  if (!parent.empty()) std::filesystem::create_directories(parent);
  auto sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(path);
  sink->set_pattern("%Y-%m-%dT%H:%M:%S.%e %l %v");
  instance().logger->sinks().push_back(sink);
}

void log_message(LogLevel level, const std::string& message) {
  spdlog::logger& logger = *instance().logger;
  switch (level) {
    case LogLevel::kDebug:
      return logger.debug("{}", message);
    case LogLevel::kInfo:
      return logger.info("{}", message);
    case LogLevel::kWarning:
      return logger.warn("warning: {}", message);
    case LogLevel::kError:
      return logger.error("error: {}", message);
  }
}

}  // namespace power
