#include <gtest/gtest.h>

#include "core/str.h"
#include "tests/ops/cases.h"

// The inference step: tokens fed in any portions give what the whole sequence gives.
namespace power::test {
namespace {

torch::Tensor feed(const Inputs& in, const std::vector<int64_t>& portions, int64_t degree, int64_t switch_over,
                   const std::string& normalize, ops::StepState& past) {
  std::vector<torch::Tensor> rows;
  int64_t first = 0;
  for (int64_t count : portions) {
    const Inputs part = in.slice(first, count);
    rows.push_back(
        ops::power_attention_step(part.q, part.k, part.v, part.log_g, past, degree, {}, switch_over, normalize));
    EXPECT_LT(past.cache_k.size(1), switch_over);
    first += count;
  }
  return torch::cat(rows, 1);
}

TEST(Step, AnyPortionsAndWindow) {
  for (int64_t degree : {1, 2, 4}) {
    for (Gating gating : {Gating::kNone, Gating::kMild, Gating::kSegments}) {
      for (const char* normalize : {"sum", "layer", "none"}) {
        const Inputs in = random_inputs({2, 23, 23, 2, 2, 4, 3}, gating, false, degree, 50);
        auto [expected, state, key_sum] = run(in, {degree, {}, 0, normalize, true});
        for (int64_t switch_over : {1, 4, 7, 100}) {
          for (const std::vector<int64_t>& portions :
               std::vector<std::vector<int64_t>>{std::vector<int64_t>(23, 1), {20, 1, 1, 1}, {5, 6, 7, 5}, {23}}) {
            SCOPED_TRACE(str("degree ", degree, " gating ", static_cast<int>(gating), " ", normalize, " switch_over ",
                             switch_over, " first ", portions[0]));
            ops::StepState past;
            const torch::Tensor y = feed(in, portions, degree, switch_over, normalize, past);
            EXPECT_LT(operator_error(y, expected, torch::ones({1})), 1e-10);
            if (past.cache_k.size(1) == 0) {
              EXPECT_LT(operator_error(past.state, state, torch::ones({1})), 1e-10);
              EXPECT_LT(operator_error(past.key_sum, key_sum, torch::ones({1})), 1e-10);
            }
          }
        }
      }
    }
  }
}

TEST(Step, HalfInputsKeepFloat32State) {
  const Inputs in =
      random_inputs({1, 40, 40, 1, 2, 16, 16}, Gating::kMild, false, 2, 51).to(torch::kCPU, torch::kBFloat16);
  const torch::Tensor expected = reference_forward(in, {});
  ops::StepState past;
  const torch::Tensor y = feed(in, std::vector<int64_t>(40, 1), 2, 8, "sum", past);
  EXPECT_EQ(past.state.scalar_type(), torch::kFloat32);
  EXPECT_EQ(y.scalar_type(), torch::kBFloat16);
  EXPECT_LT(operator_error(y, expected, torch::ones({1})), 0.0058);
}

// Memory per sequence is bounded: the state, and fewer than switch_over tokens.
TEST(Step, ConstantMemory) {
  const Inputs in = random_inputs({1, 300, 300, 1, 1, 4, 4}, Gating::kMild, false, 2, 52);
  ops::StepState past;
  feed(in, std::vector<int64_t>(300, 1), 2, 16, "sum", past);
  EXPECT_EQ(past.state.sizes(), (torch::IntArrayRef{1, 1, 10, 4}));
  EXPECT_EQ(past.cache_k.size(1), 300 % 16);
}

}  // namespace
}  // namespace power::test
