#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "core/str.h"
#include "tests/ops/cases.h"

// What the published implementation gets wrong (docs/operator.md, numbered as there), and the traps of the definition.
namespace power::test {
namespace {

Inputs concatenated(const Inputs& past, const Inputs& in) {
  Inputs all{in.q, torch::cat({past.k, in.k}, 1), torch::cat({past.v, in.v}, 1), {}, {}, {}};
  if (in.log_g) all.log_g = torch::cat({*past.log_g, *in.log_g}, 1);
  return all;
}

// A past of 12 tokens summed into a state, and 9 tokens that follow it.
struct Continued {
  Inputs past, in, all;
  explicit Continued(Gating gating) {
    past = random_inputs({2, 12, 12, 1, 2, 6, 6}, gating, false, 2, 40);
    in = random_inputs({2, 9, 9, 1, 2, 6, 6}, gating, false, 2, 41);
    all = concatenated(past, in);
    auto [y, state, key_sum] = run(past, {2, {}, 5, "sum", true});
    in.state = state;
    in.key_sum = key_sum;
  }
};

// 1: the returned state is the one after the last key, key sum included, in both forms.
TEST(PublishedDefects, D1_FinalState) {
  const Inputs in = random_inputs({1, 11, 11, 1, 1, 3, 2}, Gating::kMild, false, 2, 1);
  // Token by token from the definition: S = g S + m phi(k) v^T.
  torch::Tensor state = torch::zeros({6, 2}, torch::kFloat64), key_sum = torch::zeros({6}, torch::kFloat64);
  for (int64_t t = 0; t < 11; ++t) {
    const torch::Tensor k = in.k[0][t][0], gate = in.log_g->index({0, t, 0}).exp();
    std::vector<torch::Tensor> features;
    for (int64_t i = 0; i < 3; ++i) {
      for (int64_t j = i; j < 3; ++j) features.push_back((i == j ? 1.0 : 2.0) * k[i] * k[j]);
    }
    const torch::Tensor phi = torch::stack(features);
    state = gate * state + phi.unsqueeze(1) * in.v[0][t][0].unsqueeze(0);
    key_sum = gate * key_sum + phi;
  }
  for (int64_t chunk : {0, 1, 4, 11}) {
    auto [y, s, z] = run(in, {2, {}, chunk, "sum", true});
    EXPECT_LT(distance(s[0][0], state), 1e-13) << "chunk " << chunk;
    EXPECT_LT(distance(z[0][0], key_sum), 1e-13) << "chunk " << chunk;
  }
}

// 2: an initial state counts in numerator and denominator, under the right gates, in both forms.
TEST(PublishedDefects, D2_InitialState) {
  for (Gating gating : {Gating::kNone, Gating::kStrong}) {
    const Continued c(gating);
    const torch::Tensor expected = reference_forward(c.all, {});
    for (int64_t chunk : {0, 1, 4, 9}) {
      EXPECT_LT(distance(std::get<0>(run(c.in, {2, {}, chunk})), expected), 1e-11) << "chunk " << chunk;
    }
  }
}

// 3: several queries against a state, each with its own discount.
TEST(PublishedDefects, D3_StepWithSeveralGatedQueries) {
  const Continued c(Gating::kMild);
  ops::StepState past;
  past.state = *c.in.state;
  past.key_sum = *c.in.key_sum;
  const torch::Tensor y = ops::power_attention_step(c.in.q, c.in.k, c.in.v, c.in.log_g, past);
  EXPECT_LT(distance(y, reference_forward(c.all, {})), 1e-11);
}

// 4: no query row is dropped in the backward, whatever R*T is.
TEST(PublishedDefects, D4_TrailingQueryRows) {
  for (int64_t group : {1, 3, 7}) {
    for (int64_t length : {1, 5, 65, 129}) {
      const Inputs in = random_inputs({1, length, length, group, 1, 4, 4}, Gating::kMild, false, 2, length);
      const Inputs x = in.requires_grad();
      const torch::Tensor y = std::get<0>(run(x, {}));
      // Only the last row of the last head speaks.
      torch::Tensor dy = torch::zeros_like(y);
      dy.select(1, length - 1).select(1, group - 1).fill_(1.0);
      dy.select(1, length - 1).select(1, group - 1).select(1, 0).fill_(-2.0);
      const auto gradients = torch::autograd::grad({y}, x.tensors(), {dy});
      const auto expected = reference_backward(in, {}, dy);
      for (size_t i = 0; i < gradients.size(); ++i) {
        EXPECT_LT(operator_error(gradients[i], expected[i], dy), 1e-10) << "R " << group << " T " << length;
      }
    }
  }
}

// 5: chunked degree 4, head dim 128, E != D, D not a multiple of 16: there, with gradients.
TEST(PublishedDefects, D5_MissingShapes) {
  struct Case {
    int64_t degree;
    Shape shape;
  };
  for (const Case& c : {Case{4, {1, 20, 20, 1, 1, 8, 8}}, Case{2, {1, 20, 20, 1, 1, 128, 128}},
                        Case{2, {1, 20, 20, 2, 1, 16, 24}}, Case{2, {1, 20, 20, 1, 2, 13, 13}}}) {
    SCOPED_TRACE(str(c.shape.text(), "_p", c.degree));
    const Inputs in = random_inputs(c.shape, Gating::kMild, false, c.degree, 9);
    const Inputs x = in.requires_grad();
    const torch::Tensor y = std::get<0>(run(x, {c.degree, {}, 6}));
    const torch::Tensor dy = torch::randn_like(y);
    const auto gradients = torch::autograd::grad({y}, x.tensors(), {dy});
    const auto expected = reference_backward(in, {c.degree}, dy);
    EXPECT_LT(distance(y, reference_forward(in, {c.degree})), 1e-11);
    for (size_t i = 0; i < gradients.size(); ++i) EXPECT_LT(operator_error(gradients[i], expected[i], dy), 1e-10);
  }
}

// 6: zero queries and zero keys give zero rows and zero gradients, never NaN; a scale of 0 is refused.
TEST(PublishedDefects, D6_ZeroScoresAndZeroScale) {
  for (const char* normalize : {"sum", "layer"}) {
    for (int64_t degree : {2, 4}) {
      for (int64_t chunk : {0, 2}) {
        for (torch::Dtype dtype : {torch::kFloat64, torch::kFloat32, torch::kBFloat16}) {
          SCOPED_TRACE(power::str(normalize, " degree ", degree, " chunk ", chunk, " ", dtype));
          Inputs in = random_inputs({1, 6, 6, 1, 1, 4, 4}, Gating::kMild, true, degree, 2).to(torch::kCPU, dtype);
          in.q.select(1, 3).zero_();
          const Inputs x = in.requires_grad();
          const torch::Tensor y = std::get<0>(run(x, {degree, {}, chunk, normalize}));
          EXPECT_EQ(y.select(1, 3).abs().max().item<double>(), 0);
          const auto gradients = torch::autograd::grad({y}, x.tensors(), {torch::ones_like(y)});
          for (const torch::Tensor& g : gradients) EXPECT_TRUE(torch::isfinite(g).all().item<bool>());
          EXPECT_EQ(gradients[0].select(1, 3).abs().max().item<double>(), 0);
        }
      }
    }
  }
  const Inputs in = random_inputs({1, 4, 4, 1, 1, 4, 4}, Gating::kNone, false, 2, 2);
  try {
    run(in, {2, 0.0});
    FAIL() << "a scale of 0 was accepted";
  } catch (const std::exception& e) {
    EXPECT_NE(std::string(e.what()).find("scale is 0"), std::string::npos) << e.what();
  }
}

// 7: the normaliser's state stays float32 for half inputs: with one large key among many small ones, rounding it to
// bf16 loses the small ones' share.
TEST(PublishedDefects, D7_NormaliserInFloat32) {
  const Inputs in = random_inputs({1, 64, 64, 1, 1, 8, 8}, Gating::kMild, false, 2, 6);
  for (torch::Dtype dtype : {torch::kBFloat16, torch::kFloat16}) {
    const Inputs half = in.to(torch::kCPU, dtype);
    auto [y, state, key_sum] = run(half, {2, {}, 16, "sum", true});
    EXPECT_EQ(state.scalar_type(), torch::kFloat32);
    EXPECT_EQ(key_sum.scalar_type(), torch::kFloat32);
    // Against the same half-precision inputs in float64.
    auto [y64, state64, key_sum64] = run(half.to(torch::kCPU, torch::kFloat64), {2, {}, 16, "sum", true});
    EXPECT_LT(distance(key_sum, key_sum64), 1e-6);
    EXPECT_LT(distance(state, state64), 1e-6);
  }
}

// 8: a gate of -inf keeps packed documents apart exactly: they equal documents run alone, bit for bit in float64.
TEST(PublishedDefects, D8_DocumentBoundaries) {
  const int64_t lengths[] = {3, 1, 9, 64, 1, 50};
  Inputs in = random_inputs({1, 128, 128, 2, 2, 4, 4}, Gating::kMild, false, 2, 12);
  int64_t first = 0;
  for (int64_t length : lengths) {
    in.log_g->select(1, first).fill_(-INFINITY);
    first += length;
  }
  for (int64_t chunk : {0, 1, 3, 16, 64}) {
    const Inputs packed = in.requires_grad();
    const torch::Tensor y = std::get<0>(run(packed, {2, {}, chunk}));
    const auto gradients = torch::autograd::grad({y}, packed.tensors(), {torch::ones_like(y)});
    EXPECT_TRUE(torch::isfinite(y).all().item<bool>());
    first = 0;
    for (int64_t length : lengths) {
      SCOPED_TRACE(str("chunk ", chunk, " document of ", length, " at ", first));
      const Inputs alone = in.slice(first, length).requires_grad();
      const torch::Tensor y1 = std::get<0>(run(alone, {}));
      EXPECT_LT(distance(y.narrow(1, first, length), y1), 1e-13);
      const auto expected = torch::autograd::grad({y1}, alone.tensors(), {torch::ones_like(y1)});
      for (size_t i = 0; i < gradients.size(); ++i) {
        EXPECT_LT(operator_error(gradients[i].narrow(1, first, length), expected[i], torch::ones_like(y1)), 1e-12);
      }
      EXPECT_EQ(gradients[3].select(1, first).abs().max().item<double>(), 0);
      first += length;
    }
  }
}

// An initial state does not reach past a gate of -inf, and weights after one keep their precision.
TEST(Traps, SegmentsCutTheInitialState) {
  Inputs in = random_inputs({1, 8, 8, 1, 1, 4, 4}, Gating::kMild, true, 2, 3);
  in.log_g->select(1, 2).fill_(-INFINITY);
  for (int64_t chunk : {0, 1, 3}) {
    const Inputs x = in.requires_grad();
    const torch::Tensor y = std::get<0>(run(x, {2, {}, chunk}));
    const auto gradients = torch::autograd::grad({y.narrow(1, 2, 6).sum()}, {*x.state, *x.key_sum});
    EXPECT_EQ(gradients[0].abs().max().item<double>(), 0);
    EXPECT_LT(distance(y.narrow(1, 2, 6), reference_forward(in.slice(2, 6), {})), 1e-12);
  }
}

// Strong gates over a long sequence: sums of gates must not lose the small differences (float32, 2e-6).
TEST(Traps, StrongGatesInFloat32) {
  const Inputs in = random_inputs({1, 700, 700, 1, 1, 16, 16}, Gating::kStrong, false, 2, 14);
  const Inputs single = in.to(torch::kCPU, torch::kFloat32);
  const torch::Tensor expected = reference_forward(single, {});
  for (int64_t chunk : {0, 128, 700}) {
    EXPECT_LT(distance(std::get<0>(run(single, {2, {}, chunk})), expected), 2e-6) << "chunk " << chunk;
  }
}

// Queries and keys of unusual size, every degree: same tolerances, no overflow, no underflow.
TEST(Traps, RangeInFloat32AndHalf) {
  for (int64_t degree : {2, 3, 4, 6, 8}) {
    for (double size : {1e-3, 1.0, 30.0}) {
      for (bool scale_keys : {false, true}) {
        for (torch::Dtype dtype : {torch::kFloat32, torch::kBFloat16}) {
          SCOPED_TRACE(power::str("degree ", degree, " size ", size, scale_keys ? " (keys too) " : " ", dtype));
          Inputs in = random_inputs({1, 40, 40, 1, 1, 16, 16}, Gating::kMild, false, degree, 15);
          in.q = in.q * size;
          if (scale_keys) in.k = in.k * size;
          const Inputs low = in.to(torch::kCPU, dtype);
          const Inputs x = low.requires_grad();
          const torch::Tensor y = std::get<0>(run(x, {degree}));
          const torch::Tensor dy = torch::randn_like(y);
          const auto gradients = torch::autograd::grad({y}, x.tensors(), {dy});
          const bool half = dtype == torch::kBFloat16;
          EXPECT_LT(distance(y, reference_forward(low, {degree})), half ? 0.0058 : 2e-6);
          const auto expected = reference_backward(low, {degree}, dy);
          for (size_t i = 0; i < gradients.size(); ++i) {
            const double tolerance = !half ? 2e-5 : i < 3 ? 0.008 : 0.012;
            const double error = (gradients[i].to(torch::kFloat64) - expected[i]).norm().item<double>();
            // `sum` does not change with the size of q: dq is small where q is large and the other way round.
            EXPECT_LT(error / expected[i].norm().item<double>(), tolerance) << "input " << i;
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace power::test
