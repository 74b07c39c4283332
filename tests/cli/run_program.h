#pragma once

#include <map>
#include <string>
#include <vector>

namespace power::test {

struct ProgramResult {
  int exit_code = -1;  // 128 + signal where one ended it
  std::string out;
  std::string err;
};

struct ProgramOptions {
  std::map<std::string, std::string> environment = {};  // on top of the test's own, without its POWERTRAIN_ variables
  std::string input = {};                               // what stdin holds
  std::string stdout_path = {};                         // stdout goes there instead of into `out`
  bool closed_pipe = false;                             // stdout is a pipe whose reader has gone
  std::string program = {};                             // another one than the build's powertrain
  int signal = 0;                                       // sent once the program handles it and has written `signal_at`
  std::string signal_at = {};                           // on stdout or stderr
};

using Words = std::vector<std::string>;

inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// Runs the built program and waits for it, two minutes at most.
ProgramResult run_program(const std::vector<std::string>& arguments, const ProgramOptions& options = {});

}  // namespace power::test
