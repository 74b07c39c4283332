#include "model/cross_entropy.h"

#include <gtest/gtest.h>

#include "tests/model/test_models.h"
#include "tests/support/golden.h"

namespace power::test {
namespace {

using torch::Tensor;

struct Result {
  Tensor loss, dhidden, dweight;
};

struct Problem {
  Tensor hidden, weight, targets;

  explicit Problem(int64_t rows, int64_t vocab, torch::Dtype dtype) {
    torch::manual_seed(11);
    hidden = torch::randn({rows, 20}, dtype).set_requires_grad(true);
    weight = torch::randn({vocab, 20}, dtype).set_requires_grad(true);
    targets = torch::randint(0, vocab, {rows}, torch::kInt64);
  }

  // Backward with a factor other than 1, as loss_sum / tokens has.
  Result run(const std::function<Tensor()>& loss_of) {
    hidden.mutable_grad().reset();
    weight.mutable_grad().reset();
    const Tensor loss = loss_of();
    (loss * 0.37).backward();
    return {loss.detach(), hidden.grad(), weight.grad()};
  }
  Result chunked(torch::Dtype compute, int64_t rows_per_chunk) {
    const model::Affine head{weight, {}, weight.detach().to(compute)};
    const bool same = compute == weight.scalar_type();
    return run([&] {
      return model::cross_entropy_sum(hidden, same ? model::Affine{weight, {}, weight} : head, targets, rows_per_chunk);
    });
  }
  Result plain() {
    return run([&] { return at::cross_entropy_loss(hidden.mm(weight.t()), targets, {}, at::Reduction::Sum); });
  }
};

TEST(CrossEntropy, EqualsThePlainFormForEveryChunkSize) {
  for (const int64_t rows : {1, 7, 64, 130}) {
    for (const auto dtype : {torch::kFloat64, torch::kFloat32}) {
      Problem problem(rows, 51, dtype);
      const Result expected = problem.plain();
      const double tolerance = dtype == torch::kFloat64 ? 1e-13 : 2e-6;
      for (const int64_t chunk : {0, 1, 5, 64, 1000}) {
        SCOPED_TRACE(testing::Message() << "rows " << rows << " chunk " << chunk << " " << dtype);
        const Result found = problem.chunked(dtype, chunk);
        EXPECT_EQ(found.loss.scalar_type(), dtype);
        EXPECT_LE(relative_error(found.loss, expected.loss), tolerance);
        EXPECT_LE(relative_error(found.dhidden, expected.dhidden), tolerance);
        EXPECT_LE(relative_error(found.dweight, expected.dweight), tolerance);
      }
    }
  }
}

// In bf16 and fp16 the error is that of rounding hidden, weights, logits and their gradients to the compute dtype.
TEST(CrossEntropy, ReducedPrecisionKeepsFloat32GradientsAndSmallProbabilities) {
  Problem problem(200, 3000, torch::kFloat32);
  {
    const torch::NoGradGuard no_grad;
    problem.weight.mul_(0.05);
  }
  const Result expected = problem.plain();
  for (const auto& [compute, tolerance] : {std::pair{torch::kBFloat16, 0.01}, std::pair{torch::kFloat16, 0.0015}}) {
    SCOPED_TRACE(compute);
    const Result found = problem.chunked(compute, 64);
    EXPECT_EQ(found.dhidden.scalar_type(), torch::kFloat32);
    EXPECT_EQ(found.dweight.scalar_type(), torch::kFloat32);
    EXPECT_LE(relative_error(found.loss, expected.loss), tolerance / 10);
    EXPECT_LE(relative_error(found.dhidden, expected.dhidden), tolerance);
    EXPECT_LE(relative_error(found.dweight, expected.dweight), tolerance);
  }
}

TEST(CrossEntropy, ExtremeLogitsStayFinite) {
  Problem problem(16, 30, torch::kFloat32);
  {
    const torch::NoGradGuard no_grad;
    problem.hidden.mul_(1e3);
  }
  const Result expected = problem.plain(), found = problem.chunked(torch::kFloat32, 5);
  EXPECT_TRUE(found.dweight.isfinite().all().item<bool>());
  EXPECT_LE(relative_error(found.loss, expected.loss), 1e-6);
  EXPECT_LE(relative_error(found.dhidden, expected.dhidden), 1e-5);
}

TEST(CrossEntropy, TwoBackwardPassesGiveTheSame) {
  Problem problem(9, 30, torch::kFloat64);
  const Tensor loss =
      model::cross_entropy_sum(problem.hidden, {problem.weight, {}, problem.weight}, problem.targets, 4);
  loss.backward({}, /*retain_graph=*/true);
  const Tensor once = problem.weight.grad().clone();
  problem.weight.mutable_grad().reset();
  loss.backward();
  EXPECT_TRUE(torch::equal(once, problem.weight.grad()));
}

TEST(CrossEntropy, WithoutGradientsHoldsNone) {
  Problem problem(9, 30, torch::kFloat64);
  const Tensor expected = problem.plain().loss;
  const torch::NoGradGuard no_grad;
  const Tensor loss =
      model::cross_entropy_sum(problem.hidden, {problem.weight, {}, problem.weight}, problem.targets, 4);
  EXPECT_FALSE(loss.requires_grad());
  EXPECT_LE(relative_error(loss, expected), 1e-13);
}

}  // namespace
}  // namespace power::test
