#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/utils.h>

#include <functional>

#include "core/str.h"
#include "tests/ops/cases.h"

// Gradients against central differences in float64, entry by entry, for every operator.
namespace power::test {
namespace {

using Function = std::function<std::vector<torch::Tensor>(const std::vector<torch::Tensor>&)>;

// Loss: the sum of every output times fixed random numbers.
torch::Tensor loss(const Function& f, const std::vector<torch::Tensor>& inputs) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(7);
  torch::Tensor sum = torch::zeros({}, torch::kFloat64);
  for (const torch::Tensor& out : f(inputs)) {
    if (out.numel() > 0) sum = sum + (out * torch::randn(out.sizes(), generator, out.options())).sum();
  }
  return sum;
}

void check_gradients(const Function& f, const std::vector<torch::Tensor>& inputs, const std::string& name) {
  SCOPED_TRACE(name);
  std::vector<torch::Tensor> leaves;
  for (const torch::Tensor& t : inputs) leaves.push_back(t.detach().clone().requires_grad_());
  const auto gradients = torch::autograd::grad({loss(f, leaves)}, leaves);
  torch::NoGradGuard no_grad;
  for (size_t i = 0; i < leaves.size(); ++i) {
    torch::Tensor numeric = torch::zeros_like(leaves[i]);
    const torch::Tensor flat = leaves[i].view(-1), out = numeric.view(-1);
    for (int64_t j = 0; j < flat.numel(); ++j) {
      const double x = flat[j].item<double>(), step = 1e-5;
      if (std::isinf(x)) continue;  // a gate that starts a segment: gradient 0
      flat[j].fill_(x + step);
      const double up = loss(f, leaves).item<double>();
      flat[j].fill_(x - step);
      const double down = loss(f, leaves).item<double>();
      flat[j].fill_(x);
      out[j].fill_((up - down) / (2 * step));
    }
    const double error = (numeric - gradients[i]).norm().item<double>();
    const double size = numeric.norm().item<double>() + 1e-3;
    EXPECT_LT(error / size, 1e-6) << "gradient of input " << i;
    EXPECT_EQ(gradients[i].sizes(), leaves[i].sizes());
  }
}

Function operator_of(const Inputs& like, const Options& options) {
  const bool gated = like.log_g.has_value(), stated = like.state.has_value();
  return [=](const std::vector<torch::Tensor>& x) -> std::vector<torch::Tensor> {
    Inputs in{x[0], x[1], x[2], {}, {}, {}};
    size_t next = 3;
    if (gated) in.log_g = x[next++];
    if (stated) {
      in.state = x[next];
      in.key_sum = x[next + 1];
    }
    auto [y, state, key_sum] = run(in, options);
    return {y, state, key_sum};
  };
}

TEST(Gradient, PowerAttentionEveryDegreeFormAndNormalisation) {
  const Shape shape{1, 5, 5, 2, 1, 3, 3};
  for (int64_t degree : {1, 2, 3, 4}) {
    for (const char* normalize : {"sum", "layer", "none"}) {
      for (int64_t chunk : {0, 2}) {
        const Inputs in = random_inputs(shape, Gating::kMild, true, degree, degree);
        check_gradients(operator_of(in, {degree, 0.7, chunk, normalize, true}), in.tensors(),
                        str("degree ", degree, " ", normalize, " chunk ", chunk));
      }
    }
  }
}

TEST(Gradient, PowerAttentionGatesStatesAndLengths) {
  for (Gating gating : {Gating::kNone, Gating::kStrong, Gating::kSegments}) {
    for (bool with_state : {false, true}) {
      for (bool return_state : {false, true}) {
        for (int64_t chunk : {0, 1, 3, 4}) {
          const Shape shape{1, 3, 7, 1, 2, 2, 3};  // fewer queries than keys, E != D
          const Inputs in = random_inputs(shape, gating, with_state, 2, 11);
          check_gradients(
              operator_of(in, {2, {}, chunk, "sum", return_state}), in.tensors(),
              str("gating ", static_cast<int>(gating), " state ", with_state, return_state, " chunk ", chunk));
        }
      }
    }
  }
}

// More than one tile of queries: keys before the tile go another way than those on the diagonal.
TEST(Gradient, PowerAttentionAcrossTiles) {
  for (Gating gating : {Gating::kNone, Gating::kMild, Gating::kSegments}) {
    const Shape shape{1, 131, 140, 2, 1, 5, 3};
    const Inputs in = random_inputs(shape, gating, false, 2, 5);
    for (int64_t degree : {2, 3, 4, 6}) {
      for (const char* normalize : {"sum", "layer"}) {
        const Options options{degree, {}, 0, normalize};
        const Inputs x = in.requires_grad();
        const torch::Tensor y = std::get<0>(run(x, options));
        const torch::Tensor dy = torch::randn_like(y);
        const auto gradients = torch::autograd::grad({y}, x.tensors(), {dy});
        const auto expected = reference_backward(in, options, dy);
        EXPECT_LT(operator_error(y, reference_forward(in, options), dy), 1e-11);
        for (size_t i = 0; i < gradients.size(); ++i) {
          EXPECT_LT(operator_error(gradients[i], expected[i], dy), 1e-9)
              << "degree " << degree << " " << normalize << " gating " << static_cast<int>(gating) << " input " << i;
        }
      }
    }
  }
}

TEST(Gradient, LowLevelOperators) {
  const Shape shape{1, 5, 5, 2, 1, 3, 2};
  for (int64_t degree : {1, 2, 3}) {
    for (Gating gating : {Gating::kNone, Gating::kMild, Gating::kSegments}) {
      const Inputs in = random_inputs(shape, gating, false, degree, 3);
      const bool gated = in.log_g.has_value();
      const auto gates = [gated](const std::vector<torch::Tensor>& x, size_t i) {
        return gated ? OptTensor(x[i]) : OptTensor();
      };
      const std::string name = str("degree ", degree, " gating ", static_cast<int>(gating));
      for (bool normalize : {true, false}) {
        check_gradients(
            [=](const std::vector<torch::Tensor>& x) -> std::vector<torch::Tensor> {
              auto [y, l] = ops::attention(x[0], x[1], x[2], gates(x, 3), degree, 0.8, normalize);
              return {y, l};
            },
            in.tensors(), "attention " + name);
      }
      std::vector<torch::Tensor> keys = {in.k, in.v};
      if (gated) keys.push_back(*in.log_g);
      check_gradients(
          [=](const std::vector<torch::Tensor>& x) -> std::vector<torch::Tensor> {
            auto [state, key_sum] = ops::update_state(x[0], x[1], gates(x, 2), degree, 2);
            return {state, key_sum};
          },
          keys, "update_state " + name);
      auto [state, key_sum] = ops::update_state(in.k, in.v, in.log_g, degree, 2);
      std::vector<torch::Tensor> queries = {in.q, state, key_sum};
      if (gated) queries.push_back(*in.log_g);
      check_gradients(
          [=](const std::vector<torch::Tensor>& x) -> std::vector<torch::Tensor> {
            auto [y, l] = ops::query_state(x[0], x[1], x[2], gates(x, 3), degree, 0.8, 2);
            return {y, l};
          },
          queries, "query_state " + name);
    }
  }
  torch::manual_seed(1);
  const auto wide = torch::TensorOptions().dtype(torch::kFloat64);
  torch::Tensor decay = -torch::rand({2, 4, 3}, wide);
  decay.select(1, 2).fill_(-INFINITY);
  check_gradients(
      [](const std::vector<torch::Tensor>& x) -> std::vector<torch::Tensor> {
        auto [before, last] = ops::discumsum(x[0], x[1], x[2]);
        return {before, last};
      },
      {torch::randn({2, 4, 3, 2}, wide), decay, torch::randn({2, 3, 2}, wide)}, "discumsum");
}

TEST(Gradient, SecondOrderIsRefused) {
  const Inputs in = random_inputs({1, 4, 4, 1, 1, 2, 2}, Gating::kNone, false, 2, 1).requires_grad();
  const torch::Tensor y = std::get<0>(run(in, {}));
  const auto first = torch::autograd::grad({y.sum()}, {in.q}, {}, true, true);
  EXPECT_THROW(torch::autograd::grad({first[0].square().sum()}, {in.q}), std::exception);
}

}  // namespace
}  // namespace power::test
