#include "bench/selftest.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

namespace power::bench {
namespace {

TEST(Selftest, PassesOnTheCpu) {
  std::ostringstream out;
  const auto cases = run_selftest({.device = "cpu", .quick = true, .json = true}, out);
  ASSERT_FALSE(cases.empty());
  const auto report = nlohmann::json::parse(out.str());
  ASSERT_EQ(report.size(), cases.size());
  for (size_t i = 0; i < cases.size(); ++i) {
    EXPECT_TRUE(cases[i].passed()) << report[i].dump();
    EXPECT_EQ(report[i]["name"], cases[i].name);
    EXPECT_GE(cases[i].tensors.size(), 4u);
  }
}

TEST(Selftest, LinesSayWhatWasMeasured) {
  std::ostringstream out;
  run_selftest({.device = "cpu", .quick = true, .json = false}, out);
  EXPECT_NE(out.str().find("_D64_p2_mild_sum_fp32_quadratic  y "), std::string::npos) << out.str();
}

TEST(Selftest, OneBadTensorFailsACase) {
  SelftestCase c{"case", {{"y", 0.1, 0.2, 0.1, "b0 h0", true}, {"dq", 0.3, 0.2, 0.3, "b0 h0", false}}, ""};
  EXPECT_FALSE(c.passed());
  c.tensors.pop_back();
  EXPECT_TRUE(c.passed());
  c.failure = "two runs differ";
  EXPECT_FALSE(c.passed());
}

}  // namespace
}  // namespace power::bench
