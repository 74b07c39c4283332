#pragma once

#include <sstream>
#include <string>

namespace power {

// Concatenates its arguments as operator<< prints them.
template <class... Args>
std::string str(const Args&... args) {
  std::ostringstream out;
  (out << ... << args);
  return out.str();
}

}  // namespace power
