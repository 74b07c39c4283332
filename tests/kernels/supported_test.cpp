#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "core/file.h"
#include "kernels/power_attention/supported.h"
#include "kernels/power_attention_float32/supported.h"
#include "tests/support/paths.h"

namespace power::kernels {
namespace {

constexpr int kSmallestHeadDim = 8;

int largest(const std::vector<int>& values) { return *std::max_element(values.begin(), values.end()); }

std::string row(const std::string& dtypes, const std::string& form, const std::string& degrees, int head_dim) {
  return "| " + dtypes + " | " + form + " | " + degrees + " | " + std::to_string(kSmallestHeadDim) + " to " +
         std::to_string(head_dim) + " |";
}

std::string listed(const std::vector<int>& degrees) {
  std::string text;
  for (int degree : degrees) text += (text.empty() ? "" : ", ") + std::to_string(degree);
  return text;
}

std::vector<std::string> expected_rows() {
#define POWER_HEAD_DIM(head_dim) head_dim,
  const int head_dim = largest({POWER_ATTENTION_HEAD_DIMS(POWER_HEAD_DIM)});
  const int float32_head_dim = largest({POWER_ATTENTION_FLOAT32_HEAD_DIMS(POWER_HEAD_DIM)});
#undef POWER_HEAD_DIM
#define POWER_DEGREE(head_dim, degree) degree,
  const std::vector<int> with_states{POWER_ATTENTION_STATE_DEGREES(POWER_DEGREE, 64)};
  EXPECT_EQ(with_states, (std::vector<int>{POWER_ATTENTION_DECODE_DEGREES(POWER_DEGREE, 64)})) << "one row names both";
#undef POWER_DEGREE
  const std::string any = "1 to " + std::to_string(kMaxDegree);
  std::vector<std::string> rows{row("bf16, fp16", "quadratic", any, head_dim),
                                row("bf16, fp16", "chunked, states, decoding", listed(with_states), head_dim),
                                row("float32", "quadratic", any, float32_head_dim)};
  // Half precision goes through float32 for the degrees of which it has no states.
  std::map<std::pair<bool, int>, std::vector<int>> float32_states;
#define POWER_DEGREE(degree, largest_head_dim)                                                                       \
  float32_states[{std::find(with_states.begin(), with_states.end(), degree) != with_states.end(), largest_head_dim}] \
      .push_back(degree);
  POWER_ATTENTION_FLOAT32_STATE_DEGREES(POWER_DEGREE)
#undef POWER_DEGREE
  for (const auto& [key, degrees] : float32_states) {
    rows.push_back(row(key.first ? "float32" : "bf16, fp16, float32", "chunked, states", listed(degrees), key.second));
  }
  return rows;
}

TEST(Supported, TheTableInTheReadmeIsTheListThatIsCompiled) {
  const std::string readme = read_file(test::source_dir() / "README.md");
  std::string table;
  for (const std::string& line : expected_rows()) table += line + "\n";
  EXPECT_NE(readme.find("|---|---|---|---|\n" + table + "\n"), std::string::npos) << "README.md should have\n" << table;
}

}  // namespace
}  // namespace power::kernels
