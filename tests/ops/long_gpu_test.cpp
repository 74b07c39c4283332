#include <gtest/gtest.h>

#include "core/str.h"
#include "ops/dispatch.h"
#include "tests/ops/cases.h"

// The fused kernels on sequences that no loop on the host could check: against the chunked form in float64 on the GPU,
// which agrees with the definition to 1e-10 (forms_test.cpp).
namespace power::test {
namespace {

struct Result {
  torch::Tensor y;
  std::vector<torch::Tensor> gradients;
};

Result evaluate_long(const std::vector<torch::Tensor>& inputs, const torch::Tensor& dy, torch::Dtype dtype,
                     std::optional<int64_t> chunk_size) {
  std::vector<torch::Tensor> leaves;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const torch::Dtype own = dtype == torch::kDouble ? torch::kDouble : i == 3 ? torch::kFloat : dtype;
    leaves.push_back(inputs[i].to(own).detach().clone().requires_grad_());
  }
  const ops::OptTensor log_g = leaves.size() > 3 ? ops::OptTensor(leaves[3]) : ops::OptTensor();
  Result out;
  out.y = std::get<0>(ops::power_attention(leaves[0], leaves[1], leaves[2], log_g, {}, {}, 2, {}, chunk_size));
  out.gradients = torch::autograd::grad({out.y}, leaves, {dy.to(out.y.scalar_type())});
  out.y = out.y.detach();
  return out;
}

TEST(LongOnCuda, SixtyFiveThousandTokens) {
  if (!torch::cuda::is_available()) GTEST_SKIP() << "needs a CUDA device";
  for (bool gated : {false, true}) {
    auto [q, k, v, log_g] = ops::make_inputs(1, 65536, 2, 64, 1, torch::kBFloat16, gated, 7, torch::kCUDA);
    std::vector<torch::Tensor> inputs = {q, k, v};
    if (gated) inputs.push_back(log_g);
    const torch::Tensor dy = torch::randn(q.sizes(), q.options().dtype(torch::kFloat)).to(torch::kBFloat16);
    const Result expected = evaluate_long(inputs, dy, torch::kDouble, 1024);
    for (std::optional<int64_t> chunk_size : {std::optional<int64_t>(), std::optional<int64_t>(4096)}) {
      SCOPED_TRACE(str("gated ", gated, " chunk_size ", chunk_size.value_or(-1)));
      const Result got = evaluate_long(inputs, dy, torch::kBFloat16, chunk_size);
      const auto error = [](const torch::Tensor& x, const torch::Tensor& reference) {
        return ((x.to(torch::kDouble) - reference).norm() / reference.norm()).item<double>();
      };
      const double y = error(got.y, expected.y);
      std::printf("  gated %d chunk %5ld: y %.2e", gated, static_cast<long>(chunk_size.value_or(-1)), y);
      EXPECT_LE(y, 0.0058);
      static const char* const kNames[] = {"dq", "dk", "dv", "dlog_g"};
      for (size_t i = 0; i < inputs.size(); ++i) {
        const double gradient = error(got.gradients[i], expected.gradients[i]);
        std::printf("  %s %.2e", kNames[i], gradient);
        EXPECT_LE(gradient, i == 3 ? 0.012 : 0.008) << kNames[i];
      }
      std::printf("\n");
    }
  }
}

}  // namespace
}  // namespace power::test
