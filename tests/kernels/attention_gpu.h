#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <thread>

#include "tests/kernels/cuda_device.h"

namespace power::kernels::testing {

// Cases on the GPU; prints the worst error of each tensor at the end. POWER_TEST_REDUCED=1 keeps the grid small enough
// for compute-sanitizer; POWER_TEST_PRINT=1 prints every case.
class AttentionGpu : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string reason = no_device_reason();
    if (!reason.empty()) GTEST_SKIP() << reason;
  }
  static bool reduced() { return std::getenv("POWER_TEST_REDUCED") != nullptr; }

  void check(const AttentionCase& c) {
    if (reduced() && c.key_len > 400) return;
    SCOPED_TRACE(c.name());
    const CaseResult result = run_attention_case(device_, c, static_cast<int>(std::thread::hardware_concurrency()));
    EXPECT_TRUE(result.ok()) << result.text();
    for (const Comparison& comparison : result.comparisons) {
      Comparison& worst = worst_[comparison.tensor];
      if (!(comparison.error / comparison.tolerance <= worst.error / std::max(worst.tolerance, 1e-30))) {
        worst = comparison;
        worst.worst_where = c.name();
      }
    }
    ++cases_;
    if (std::getenv("POWER_TEST_PRINT")) std::printf("%s:%s\n", c.name().c_str(), result.text().c_str());
  }

  void TearDown() override {
    for (const auto& [tensor, worst] : worst_) {
      std::printf("  %-7s worst of %d cases: error %.2e, tolerance %.2e, in %s\n", tensor.c_str(), cases_, worst.error,
                  worst.tolerance, worst.worst_where.c_str());
    }
  }

  CudaDevice device_;
  std::map<std::string, Comparison> worst_;
  int cases_ = 0;
};

inline AttentionCase self_attention(int len, Gates gates) {
  AttentionCase c;
  c.query_len = c.key_len = len;
  c.gates = gates;
  return c;
}

}  // namespace power::kernels::testing
