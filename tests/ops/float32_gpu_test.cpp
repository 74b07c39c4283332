#include <gtest/gtest.h>

#include <functional>

#include "core/str.h"
#include "ops/dispatch.h"
#include "tests/ops/cases.h"

// The operators that run on the float32 kernels, with their gradients, on CUDA against float64 on the CPU: float32 in
// every form, half precision where the bf16 kernels have no states, and the low-level operators.
namespace power::test {
namespace {

using Tensors = std::vector<torch::Tensor>;
using Operator = std::function<Tensors(const Tensors&)>;

constexpr Gating kGatings[] = {Gating::kNone, Gating::kMild, Gating::kSegments};

OptTensor at_or_none(const Tensors& x, size_t i) { return i < x.size() ? OptTensor(x[i]) : OptTensor(); }

// Outputs, then gradients of their products with fixed random tensors.
Tensors evaluate(const Operator& op, const Tensors& inputs) {
  Tensors leaves;
  for (const torch::Tensor& x : inputs) leaves.push_back(x.detach().clone().requires_grad_());
  Tensors outputs = op(leaves), gradients;
  torch::manual_seed(11);
  for (const torch::Tensor& y : outputs) {
    gradients.push_back(torch::randn(y.sizes(), torch::kFloat).to(y.device(), y.scalar_type()));
  }
  const Tensors of_inputs = torch::autograd::grad(outputs, leaves, gradients);
  outputs.insert(outputs.end(), of_inputs.begin(), of_inputs.end());
  return outputs;
}

// Inputs in `dtype` (gates and states in float32) on CUDA against the same numbers in float64 on the CPU.
void check(const std::string& name, const Operator& op, const Tensors& inputs, torch::Dtype dtype, size_t of_dtype,
           double forward, double backward) {
  SCOPED_TRACE(name);
  Tensors narrow, wide;
  for (size_t i = 0; i < inputs.size(); ++i) {
    narrow.push_back(inputs[i].to(torch::kCUDA, i < of_dtype ? dtype : torch::kFloat));
    wide.push_back(narrow.back().to(torch::kCPU, torch::kDouble));
  }
  const Tensors got = evaluate(op, narrow), again = evaluate(op, narrow), expected = evaluate(op, wide);
  const size_t outputs = got.size() - inputs.size();
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_TRUE(torch::equal(got[i], again[i])) << "tensor " << i << " differs between two runs";
    const torch::Tensor error = got[i].to(torch::kCPU, torch::kDouble) - expected[i];
    const double relative = (error.norm() / expected[i].norm().clamp_min(1e-6)).item<double>();
    EXPECT_LE(relative, i < outputs ? forward : backward) << "tensor " << i;
  }
}

struct Float32OpsGpu : ::testing::Test {
  void SetUp() override {
    if (!torch::cuda::is_available()) GTEST_SKIP() << "needs a CUDA device";
  }
};

Tensors with_gates(const Inputs& in) {
  Tensors x = {in.q, in.k, in.v};
  if (in.log_g.has_value()) x.push_back(*in.log_g);
  return x;
}

TEST_F(Float32OpsGpu, PowerAttention) {
  for (torch::Dtype dtype : {torch::kFloat, torch::kBFloat16, torch::kHalf}) {
    for (int64_t degree : {1, 2, 3, 4}) {
      for (int64_t chunk_size : {0, 64, 100}) {
        const bool in_bf16 = dtype != torch::kFloat && (chunk_size == 0 || (chunk_size == 64 && degree < 3));
        if (in_bf16) continue;  // not these kernels
        for (Gating gating : kGatings) {
          Shape shape;
          shape.batch = 2, shape.query_len = shape.key_len = 200, shape.group = 2;
          shape.head_dim = shape.value_dim = degree > 2 ? 16 : 40;
          const Inputs in = random_inputs(shape, gating, false, degree, 5);
          const auto op = [&](const Tensors& x) -> Tensors {
            return {std::get<0>(ops::power_attention(x[0], x[1], x[2], at_or_none(x, 3), {}, {}, degree, 0.3,
                                                     chunk_size, degree % 2 ? "none" : "sum"))};
          };
          const bool half = dtype != torch::kFloat;
          check(power::str(dtype, " degree ", degree, " chunk ", chunk_size, " gates ", static_cast<int>(gating)), op,
                with_gates(in), dtype, 3, half ? 0.0058 : 2e-6, half ? 0.008 : 2e-5);
        }
      }
    }
  }
}

TEST_F(Float32OpsGpu, States) {
  for (torch::Dtype dtype : {torch::kFloat, torch::kBFloat16}) {
    for (int64_t degree : {2, 3, 4}) {
      if (dtype != torch::kFloat && degree < 3) continue;
      for (int64_t chunk_size : {0, 64}) {
        Shape shape;
        shape.query_len = shape.key_len = 150;
        shape.head_dim = shape.value_dim = 16;
        const Inputs in = random_inputs(shape, Gating::kMild, true, degree, 6);
        const Tensors inputs = {in.q, in.k, in.v, *in.log_g, *in.state, *in.key_sum};
        const auto op = [&](const Tensors& x) -> Tensors {
          auto [y, state, key_sum] =
              ops::power_attention(x[0], x[1], x[2], x[3], x[4], x[5], degree, 0.3, chunk_size, "none", true);
          return {y, state, key_sum};
        };
        const bool half = dtype != torch::kFloat;
        check(power::str(dtype, " degree ", degree, " chunk ", chunk_size), op, inputs, dtype, 3, half ? 0.0058 : 2e-6,
              half ? 0.008 : 2e-5);
      }
    }
  }
}

TEST_F(Float32OpsGpu, LowLevel) {
  for (int64_t degree : {1, 2, 3, 4}) {
    for (Gating gating : kGatings) {
      Shape shape;
      shape.batch = 2, shape.query_len = shape.key_len = 100, shape.group = 2;
      shape.head_dim = shape.value_dim = 16;
      const Inputs in = random_inputs(shape, gating, false, degree, 8);
      const std::string name = power::str("degree ", degree, " gates ", static_cast<int>(gating));
      for (bool normalize : {false, true}) {
        if (normalize && degree % 2) continue;
        check(
            "attention " + name,
            [&](const Tensors& x) -> Tensors {
              auto [y, l] = ops::attention(x[0], x[1], x[2], at_or_none(x, 3), degree, 0.3, normalize);
              return {y, l};
            },
            with_gates(in), torch::kFloat, 3, 4e-6, 2e-5);  // l of signed or small weights
      }
      Tensors keys = {in.k, in.v};
      if (in.log_g.has_value()) keys.push_back(*in.log_g);
      check(
          "update_state " + name,
          [&](const Tensors& x) -> Tensors {
            auto [state, key_sum] = ops::update_state(x[0], x[1], at_or_none(x, 2), degree, 30);
            return {state, key_sum};
          },
          keys, torch::kFloat, 2, 2e-6, 2e-5);
      auto [state, key_sum] = ops::update_state(in.k, in.v, in.log_g, degree, 30);
      Tensors queries = {in.q, state, key_sum};
      if (in.log_g.has_value()) queries.push_back(*in.log_g);
      check(
          "query_state " + name,
          [&](const Tensors& x) -> Tensors {
            auto [y, l] = ops::query_state(x[0], x[1], x[2], at_or_none(x, 3), degree, 0.3, 30);
            return {y, l};
          },
          queries, torch::kFloat, 1, 4e-6, 2e-5);
    }
  }
  torch::manual_seed(2);
  const torch::Tensor decay = -torch::rand({2, 5, 3}, torch::kDouble);
  check(
      "discumsum",
      [](const Tensors& x) -> Tensors {
        auto [before, last] = ops::discumsum(x[0], x[1], x[2]);
        return {before, last};
      },
      {torch::randn({2, 5, 3, 40, 8}, torch::kDouble), decay, torch::randn({2, 3, 40, 8}, torch::kDouble)},
      torch::kFloat, 1, 2e-6, 2e-5);
}

}  // namespace
}  // namespace power::test
