#include <gtest/gtest.h>

#include "core/str.h"
#include "ops/dispatch.h"
#include "tests/ops/cases.h"

// The inference step on CUDA, where it runs as one kernel, against the float64 loops.
namespace power::test {
namespace {

#define SKIP_WITHOUT_GPU() \
  if (!torch::cuda::is_available()) GTEST_SKIP() << "needs a CUDA device"

torch::Tensor feed(const Inputs& in, const std::vector<int64_t>& portions, int64_t degree, int64_t switch_over,
                   const std::string& normalize, ops::StepState& past) {
  std::vector<torch::Tensor> rows;
  int64_t first = 0;
  for (int64_t count : portions) {
    const Inputs part = in.slice(first, count);
    rows.push_back(
        ops::power_attention_step(part.q, part.k, part.v, part.log_g, past, degree, {}, switch_over, normalize));
    first += count;
  }
  return torch::cat(rows, 1);
}

TEST(DecodeOnCuda, AnyPortionsAndWindow) {
  SKIP_WITHOUT_GPU();
  for (torch::Dtype dtype : {torch::kBFloat16, torch::kHalf}) {
    for (Gating gating : {Gating::kNone, Gating::kMild, Gating::kSegments}) {
      // Rounded to bf16 first, which float16 then holds exactly.
      const Inputs in =
          random_inputs({2, 90, 90, 2, 2, 64, 64}, gating, false, 2, 61).to(torch::kCPU, torch::kBFloat16);
      const torch::Tensor expected = reference_forward(in.to(torch::kCPU, torch::kDouble), {});
      const Inputs on_gpu = in.to(torch::kCUDA, dtype);
      for (int64_t switch_over : {16, 64, 256}) {
        for (const std::vector<int64_t>& portions :
             std::vector<std::vector<int64_t>>{std::vector<int64_t>(90, 1), {80, 1, 1, 8}, {31, 32, 27}}) {
          SCOPED_TRACE(str("gating ", static_cast<int>(gating), " switch_over ", switch_over, " first ", portions[0]));
          ops::StepState past;
          const torch::Tensor y = feed(on_gpu, portions, 2, switch_over, "sum", past);
          EXPECT_TRUE(past.decode_cache.defined());
          EXPECT_EQ(y.scalar_type(), dtype);
          EXPECT_LT(operator_error(y.cpu(), expected, torch::ones({1})), 0.0058);
        }
      }
    }
  }
}

TEST(DecodeOnCuda, WhatNoKernelServesRunsAsBefore) {
  SKIP_WITHOUT_GPU();
  const Inputs in = random_inputs({1, 30, 30, 1, 2, 16, 16}, Gating::kMild, false, 2, 62);
  const torch::Tensor expected = reference_forward(in, {});
  ops::StepState past;
  const torch::Tensor y = feed(in.to(torch::kCUDA, torch::kFloat32), std::vector<int64_t>(30, 1), 2, 8, "sum", past);
  EXPECT_FALSE(past.decode_cache.defined());
  EXPECT_LT(operator_error(y.cpu(), expected, torch::ones({1})), 2e-6);
}

TEST(DecodeOnCuda, StatesAreThoseOfTheOperator) {
  SKIP_WITHOUT_GPU();
  const Inputs in =
      random_inputs({2, 70, 70, 1, 3, 40, 40}, Gating::kMild, false, 2, 63).to(torch::kCPU, torch::kBFloat16);
  const auto [y, state, key_sum] = run(in.to(torch::kCPU, torch::kDouble), {2, {}, 0, "sum", true});
  ops::StepState past;
  feed(in.to(torch::kCUDA, torch::kBFloat16), std::vector<int64_t>(70, 1), 2, 32, "sum", past);
  const auto store = ops::find_op<ops::DecodeExportSignature>("power_attention::decode_export");
  const auto [found_state, found_key_sum] = store.call(past.decode_cache, 40, 2, 32);
  EXPECT_LT(operator_error(found_state.cpu(), state, torch::ones({1})), 3e-5);
  EXPECT_LT(operator_error(found_key_sum.cpu(), key_sum, torch::ones({1})), 1e-5);
}

}  // namespace
}  // namespace power::test
