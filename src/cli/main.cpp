#include <c10/util/Exception.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <exception>
#include <iostream>
#include <new>
#include <optional>
#include <string>
#include <vector>

#include "cli/command.h"
#include "config/nearest.h"
#include "core/error.h"
#include "core/interrupt.h"
#include "core/log.h"

namespace power::cli {
namespace {

using Words = std::vector<std::string>;

struct Selected {
  const Command* command = nullptr;  // null: `help` is the answer
  std::string help;
  Words rest;
};

bool is_help(const std::string& word) { return word == "--help" || word == "-h"; }

const Command* find_command(const std::string& name) {
  for (const Command& command : commands()) {
    if (command.name == name) return &command;
  }
  return nullptr;
}

bool is_group(const std::string& name) {
  return std::any_of(commands().begin(), commands().end(),
                     [&](const Command& command) { return command.name.compare(0, name.size() + 1, name + " ") == 0; });
}

[[noreturn]] void fail_unknown_command(const std::string& name) {
  Words names = {"--help", "--version"};
  for (const Command& command : commands()) {
    names.push_back(command.name);
    const std::string group = command.name.substr(0, command.name.find(' '));
    if (name.find(' ') == std::string::npos && group != command.name) names.push_back(group);
  }
  fail(ErrorKind::kUsage, "unknown command '", name, "'; the nearest is '", config::nearest(name, names),
       "' (`powertrain --help` lists all)");
}

Selected select_command(Words words) {
  require(!words.empty(), ErrorKind::kUsage, "no command given\n\n", program_help());
  if (words[0] == "help") {
    words.erase(words.begin());
    words.push_back("--help");
  }
  if (is_help(words[0])) return {nullptr, program_help(), {}};
  if (words[0] == "--version") return {nullptr, version_text(), {}};
  std::string name = words[0];
  size_t used = 1;
  if (is_group(name)) {
    require(words.size() > 1, ErrorKind::kUsage, "'", name, "' needs one of its commands\n\n", group_help(name));
    if (is_help(words[1])) return {nullptr, group_help(name), {}};
    name += " " + words[1];
    used = 2;
  }
  const Command* command = find_command(name);
  if (command == nullptr) fail_unknown_command(name);
  Words rest(words.begin() + static_cast<std::ptrdiff_t>(used), words.end());
  const auto end = std::find(rest.begin(), rest.end(), "--");
  if (std::any_of(rest.begin(), end, is_help)) return {nullptr, command_help(*command), {}};
  return {command, "", std::move(rest)};
}

// What a caught exception means to the caller of the program.
int exit_code(const Error& error, const Command* command) {
  const bool stopped = error.kind() == ErrorKind::kPreempted && interrupted();
  if (stopped && (command == nullptr || !command->resumable)) return 128 + interrupt_signal();
  return static_cast<int>(error.kind());
}

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

int run(const Words& words) {
  const Command* command = nullptr;
  try {
    // A failed write to stdout throws from here on, so that no command works on for a reader who has gone.
    std::cout.exceptions(std::ios::badbit);
    const Selected selected = select_command(words);
    command = selected.command;
    int code = 0;
    if (command == nullptr) {
      std::cout << selected.help;
    } else {
      const Arguments arguments = parse(*command, selected.rest);
      set_log_quiet(arguments.has("quiet"));
      code = command->run(arguments);
    }
    std::cout.flush();
    return code;
  } catch (const Error& error) {
    // Stopping on request is no failure.
    log_message(error.kind() == ErrorKind::kPreempted ? LogLevel::kWarning : LogLevel::kError, error.what());
    return exit_code(error, command);
  } catch (const std::ios_base::failure&) {
    if (errno == EPIPE) return 0;
    log_error("stdout cannot be written: ", std::generic_category().message(errno));
  } catch (const c10::OutOfMemoryError& error) {
    log_error("out of GPU memory: ", first_line(error.what_without_backtrace()),
              "\n  lower batch_size (and raise gradient_accumulation_steps), or set recompute=True");
  } catch (const c10::ValueError& error) {
    log_error(error.what_without_backtrace());
    return static_cast<int>(ErrorKind::kUsage);
  } catch (const c10::Error& error) {
    log_error("LibTorch: ", error.what_without_backtrace());
  } catch (const std::bad_alloc&) {
    log_error("out of memory; lower batch_size or block_size, or use a machine with more");
  } catch (const std::exception& error) {
    log_error(error.what());
  }
  return static_cast<int>(ErrorKind::kRuntime);
}

}  // namespace
}  // namespace power::cli

int main(int argc, char** argv) {
  // A closed pipe shows as a failed write, which ends the program quietly.
  std::signal(SIGPIPE, SIG_IGN);
  return power::cli::run(std::vector<std::string>(argv + 1, argv + std::max(argc, 1)));
}
