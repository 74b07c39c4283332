#include "model/heads.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "model/rotary.h"
#include "tests/support/golden.h"

namespace power::test {
namespace {

using torch::Tensor;

TEST(Rotary, TableHoldsTheAnglesInFloat64AndGrows) {
  const double base = 1024;
  model::RotaryTable table(64, base);
  const auto check = [&](int64_t begin, int64_t count) {
    const Tensor rows = table.rows(begin, count, torch::kCPU, torch::kFloat64);
    ASSERT_EQ(rows.sizes(), (std::vector<int64_t>{count, 32, 2}));
    for (const int64_t t : {begin, begin + count - 1}) {
      for (const int64_t i : {0, 1, 17, 31}) {
        const double angle = static_cast<double>(t) * 2 * std::numbers::pi / std::pow(base, 2.0 * i / 64.0);
        EXPECT_NEAR(rows[t - begin][i][0].item<double>(), std::cos(angle), 1e-9) << t << " " << i;
        EXPECT_NEAR(rows[t - begin][i][1].item<double>(), std::sin(angle), 1e-9) << t << " " << i;
      }
    }
  };
  check(0, 10);
  check(3, 4);
  check(10, 1);     // one past the end
  check(65535, 1);  // far past it
  // float32 rows are the float64 ones rounded once, at positions where float32 angles would be wrong by 1e-3.
  const Tensor exact = table.rows(60000, 100, torch::kCPU, torch::kFloat64).clone();
  EXPECT_TRUE(torch::equal(table.rows(60000, 100, torch::kCPU, torch::kFloat32), exact.to(torch::kFloat32)));
}

TEST(Rotary, TurnsInterleavedPairs) {
  const Tensor table = torch::tensor({0.6, 0.8, 1.0, 0.0}, torch::kFloat64).view({1, 2, 2});
  const Tensor x = torch::tensor({1.0, 2.0, 3.0, 4.0}, torch::kFloat64).view({1, 1, 1, 4});
  const Tensor turned = model::rotate(x, table, false);
  const Tensor expected = torch::tensor({0.6 - 1.6, 0.8 + 1.2, 3.0, 4.0}, torch::kFloat64).view({1, 1, 1, 4});
  EXPECT_LE((turned - expected).abs().max().item<double>(), 1e-15);
  EXPECT_LE((model::rotate(turned, table, true) - x).abs().max().item<double>(), 1e-15);
}

// split_heads as plain differentiable operations.
model::AttentionInputs split_plainly(const Tensor& qkvg, const Tensor& rotary, const model::HeadLayout& layout) {
  const int64_t D = layout.head_size, HQ = layout.ratio * layout.heads, H = layout.heads;
  const auto parts = qkvg.split_with_sizes({HQ * D, H * D, H * D, layout.gating ? H : 0}, -1);
  const Tensor q = model::rotate(parts[0].unflatten(-1, {HQ, D}), rotary, false);
  const Tensor k = model::rotate(parts[1].unflatten(-1, {H, D}), rotary, false);
  Tensor log_g;
  if (layout.gating) log_g = torch::log_sigmoid(parts[3].to(rotary.scalar_type()) + 6.906768);
  const auto dtype = qkvg.scalar_type();
  return {q.to(dtype), k.to(dtype), parts[2].unflatten(-1, {H, D}), log_g};
}

TEST(Heads, SplitEqualsPlainOperationsForwardAndBackward) {
  for (const auto& [dtype, T] : {std::pair{torch::kFloat64, int64_t{37}}, std::pair{torch::kFloat32, int64_t{37}},
                                 std::pair{torch::kBFloat16, int64_t{37}}, std::pair{torch::kFloat16, int64_t{37}},
                                 std::pair{torch::kFloat64, int64_t{1}}}) {
    for (const model::HeadLayout layout :
         {model::HeadLayout{2, 3, 8, true}, model::HeadLayout{1, 1, 2, true}, model::HeadLayout{3, 1, 16, false}}) {
      SCOPED_TRACE(testing::Message() << dtype << " H " << layout.heads << " R " << layout.ratio);
      torch::manual_seed(2);
      const int64_t B = 3;
      const auto table_dtype = dtype == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32;
      const Tensor rotary = model::RotaryTable(layout.head_size, 64).rows(5, T, torch::kCPU, table_dtype);
      const Tensor x = (torch::randn({B, T, layout.rows()}) * 3).to(dtype);
      const Tensor own = x.clone().set_requires_grad(true), plain = x.clone().set_requires_grad(true);
      const model::AttentionInputs found = model::split_heads(own, rotary, layout);
      const model::AttentionInputs expected = split_plainly(plain, rotary, layout);
      const double tolerance = dtype == torch::kFloat64 ? 1e-14 : dtype == torch::kFloat32 ? 1e-6 : 4e-3;
      Tensor loss = torch::zeros({}, torch::kFloat64), expected_loss = loss;
      const auto compare = [&](const Tensor& a, const Tensor& b) {
        ASSERT_EQ(a.sizes(), b.sizes());
        ASSERT_EQ(a.scalar_type(), b.scalar_type());
        EXPECT_LE(relative_error(a.detach(), b.detach()), tolerance);
        const Tensor weight = torch::randn(a.sizes(), torch::kFloat64);
        loss = loss + (a.to(torch::kFloat64) * weight).sum();
        expected_loss = expected_loss + (b.to(torch::kFloat64) * weight).sum();
      };
      compare(found.q, expected.q);
      compare(found.k, expected.k);
      compare(found.v, expected.v);
      EXPECT_EQ(found.log_g.defined(), layout.gating);
      if (layout.gating) compare(found.log_g, expected.log_g);
      loss.backward();
      expected_loss.backward();
      EXPECT_LE(relative_error(own.grad(), plain.grad()), tolerance);
    }
  }
}

}  // namespace
}  // namespace power::test
