#pragma once

#include <stdexcept>
#include <string>

#include "core/str.h"

namespace power {

// What a failure means to the caller; the value is the program's exit code.
enum class ErrorKind {
  kRuntime = 1,    // the machine or a library failed
  kUsage = 2,      // command line or configuration
  kData = 3,       // a data set or checkpoint is invalid
  kNonFinite = 4,  // the loss is not finite
  kPreempted = 5,  // stopped on request; the run can be resumed
};

// Every message says what is wrong, what was found, and what to do.
class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
};

template <class... Args>
[[noreturn]] void fail(ErrorKind kind, const Args&... message) {
  throw Error(kind, power::str(message...));  // c10 has a str of its own
}

template <class... Args>
void require(bool condition, ErrorKind kind, const Args&... message) {
  if (!condition) fail(kind, message...);
}

}  // namespace power
