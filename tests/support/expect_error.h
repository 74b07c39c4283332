#pragma once

#include <gtest/gtest.h>

#include <string>

#include "core/error.h"

namespace power::test {

// Runs `action`, which must throw power::Error of this kind with `part` in its message; returns the whole message.
template <class Action>
std::string expect_error(ErrorKind kind, const std::string& part, Action&& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(static_cast<int>(error.kind()), static_cast<int>(kind)) << error.what();
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos)
        << "message: " << error.what() << "\nmust hold: " << part;
    return error.what();
  } catch (const std::exception& error) {
    ADD_FAILURE() << "not a power::Error: " << error.what();
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown; expected: " << part;
  return "";
}

}  // namespace power::test
