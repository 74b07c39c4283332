#include "tests/cli/run_program.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <stdexcept>

#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"

namespace power::test {
namespace {

std::string read_all(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void redirect(const std::string& path, int flags, int target) {
  const int fd = open(path.c_str(), flags, 0600);
  if (fd < 0 || dup2(fd, target) < 0) _exit(126);
  close(fd);
}

void close_reader(int target) {
  int ends[2];
  if (pipe(ends) != 0 || close(ends[0]) != 0 || dup2(ends[1], target) < 0) _exit(126);
  close(ends[1]);
}

std::vector<std::string> environment_of(const ProgramOptions& options) {
  std::vector<std::string> all;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string variable = *entry;
    const bool replaced = std::any_of(options.environment.begin(), options.environment.end(),
                                      [&](const auto& given) { return variable.rfind(given.first + "=", 0) == 0; });
    if (!replaced && variable.rfind("POWERTRAIN_", 0) != 0) all.push_back(variable);
  }
  for (const auto& [name, value] : options.environment) all.push_back(name + "=" + value);
  return all;
}

std::vector<char*> pointers(std::vector<std::string>& words) {
  std::vector<char*> result;
  for (std::string& word : words) result.push_back(word.data());
  result.push_back(nullptr);
  return result;
}

bool has_ended(pid_t child) {
  siginfo_t info = {};
  return waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid != 0;
}

// Whether the process has a handler for the signal: a bit of the mask SigCgt in /proc.
bool handles(pid_t child, int signal) {
  const std::string status = read_all("/proc/" + std::to_string(child) + "/status");
  const size_t line = status.find("SigCgt:");
  return line != std::string::npos && ((std::stoull(status.substr(line + 7), nullptr, 16) >> (signal - 1)) & 1) != 0;
}

}  // namespace

ProgramResult run_program(const std::vector<std::string>& arguments, const ProgramOptions& options) {
  const TempFolder folder;
  const std::string in = (folder.path() / "in").string(), err = (folder.path() / "err").string();
  const std::string out = options.stdout_path.empty() ? (folder.path() / "out").string() : options.stdout_path;
  std::ofstream(in, std::ios::binary) << options.input;

  std::vector<std::string> words = {options.program.empty() ? (binary_dir() / "powertrain").string() : options.program};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<std::string> variables = environment_of(options);
  std::vector<char*> argv = pointers(words), envp = pointers(variables);
  const pid_t child = fork();
  if (child < 0) throw std::runtime_error("fork failed");
  if (child == 0) {
    alarm(120);
    redirect(in, O_RDONLY, STDIN_FILENO);
    if (options.closed_pipe) {
      close_reader(STDOUT_FILENO);
    } else {
      redirect(out, O_WRONLY | O_CREAT | O_TRUNC, STDOUT_FILENO);
    }
    redirect(err, O_WRONLY | O_CREAT | O_TRUNC, STDERR_FILENO);
    execve(argv[0], argv.data(), envp.data());
    _exit(127);
  }
  if (options.signal != 0) {
    const auto written = [&] { return (read_all(out) + read_all(err)).find(options.signal_at) != std::string::npos; };
    while (!has_ended(child) && !(handles(child, options.signal) && written())) usleep(5000);
    kill(child, options.signal);
  }
  int status = 0;
  if (waitpid(child, &status, 0) != child) throw std::runtime_error("waitpid failed");
  ProgramResult result;
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  if (options.stdout_path.empty() && !options.closed_pipe) result.out = read_all(out);
  result.err = read_all(err);
  return result;
}

}  // namespace power::test
