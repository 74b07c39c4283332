#pragma once

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

#include "tests/kernels/attention_case.h"
#include "tests/kernels/host_device.h"

namespace power::kernels::testing {

// Runs a case on the emulator and compares it; POWER_TEST_PRINT in the environment prints the errors.
inline void check(const AttentionCase& c) {
  SCOPED_TRACE(c.name());
  HostDevice device;
  const CaseResult result = run_attention_case(device, c);
  EXPECT_TRUE(result.ok()) << result.text();
  if (std::getenv("POWER_TEST_PRINT")) printf("%s:%s\n", c.name().c_str(), result.text().c_str());
}

}  // namespace power::kernels::testing
