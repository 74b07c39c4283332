#include "optim/adamw.h"

#include <gtest/gtest.h>
#include <torch/utils.h>

#include <cmath>

#include "tests/support/expect_error.h"
#include "tests/support/golden.h"

namespace power::test {
namespace {

using optim::NamedTensors;
using torch::Tensor;

NamedTensors parameters(torch::Dtype dtype, uint64_t seed = 1) {
  torch::manual_seed(seed);
  NamedTensors named;
  named.insert("matrix", torch::randn({5, 3}, dtype).set_requires_grad(true));
  named.insert("vector", torch::randn({3}, dtype).set_requires_grad(true));
  named.insert("other", torch::randn({2, 4}, dtype).set_requires_grad(true));
  return named;
}

void set_gradients(NamedTensors& named, uint64_t seed, double scale = 1) {
  torch::manual_seed(seed);
  for (auto& item : named) item.value().mutable_grad() = torch::randn_like(item.value()) * scale;
}

// Loshchilov and Hutter 2019, algorithm 2, with PyTorch's placement of eps.
struct PlainAdamW {
  optim::AdamWOptions options;
  std::vector<Tensor> m, v;
  int64_t step = 0;

  void update(NamedTensors& named, double lr) {
    const torch::NoGradGuard no_grad;
    ++step;
    m.resize(named.size());
    v.resize(named.size());
    const auto t = static_cast<double>(step);
    for (size_t i = 0; i < named.size(); ++i) {
      Tensor x = named[i].value();
      const Tensor g = x.grad();
      m[i] = (m[i].defined() ? m[i] * options.beta1 : torch::zeros_like(x)) + g * (1 - options.beta1);
      v[i] = (v[i].defined() ? v[i] * options.beta2 : torch::zeros_like(x)) + g * g * (1 - options.beta2);
      if (x.dim() >= 2) x.mul_(1 - lr * options.weight_decay);
      const Tensor mean = m[i] / (1 - std::pow(options.beta1, t)), square = v[i] / (1 - std::pow(options.beta2, t));
      x.sub_(lr * mean / (square.sqrt() + options.eps));
    }
  }
};

TEST(AdamW, EqualsTheFormula) {
  for (const auto dtype : {torch::kFloat64, torch::kFloat32}) {
    NamedTensors own = parameters(dtype), plain = parameters(dtype);
    const optim::AdamWOptions options{0.8, 0.95, 1e-6, 0.3};
    optim::AdamW adamw(own, options);
    PlainAdamW expected{options, {}, {}, 0};
    for (int step = 0; step < 20; ++step) {
      const double lr = 0.01 * (step + 1);
      set_gradients(own, 100 + step);
      set_gradients(plain, 100 + step);
      adamw.step(lr);
      expected.update(plain, lr);
    }
    for (size_t i = 0; i < own.size(); ++i) {
      EXPECT_LE(relative_error(own[i].value().detach(), plain[i].value().detach()),
                dtype == torch::kFloat64 ? 1e-13 : 1e-5)
          << own[i].key();
    }
  }
}

TEST(AdamW, VectorsAreNotDecayed) {
  NamedTensors named = parameters(torch::kFloat64);
  const NamedTensors before = parameters(torch::kFloat64);
  optim::AdamW adamw(named, {0.9, 0.95, 1e-8, 0.5});
  for (auto& item : named) item.value().mutable_grad() = torch::zeros_like(item.value());
  adamw.step(0.1);
  EXPECT_TRUE(torch::allclose(named["matrix"], before["matrix"] * 0.95, 1e-14, 0));
  EXPECT_TRUE(torch::equal(named["vector"], before["vector"]));
}

TEST(AdamW, ANonFiniteStepChangesNothingButTheCounters) {
  NamedTensors named = parameters(torch::kFloat32), untroubled = parameters(torch::kFloat32);
  optim::AdamW adamw(named, {}), expected(untroubled, {});
  const Tensor finite = torch::zeros({}), found = torch::ones({});
  const auto good_step = [&](uint64_t seed) {
    set_gradients(named, seed);
    set_gradients(untroubled, seed);
    adamw.step(0.01, finite);
    expected.step(0.01, finite);
  };
  const auto bad_step = [&] {
    set_gradients(named, 5, NAN);
    adamw.step(0.01, found);
  };
  good_step(1);
  bad_step();
  bad_step();
  EXPECT_EQ(adamw.skipped_in_a_row().item<int64_t>(), 2);
  good_step(2);
  EXPECT_EQ(adamw.skipped_in_a_row().item<int64_t>(), 0);
  bad_step();
  good_step(3);
  EXPECT_EQ(adamw.skipped_total().item<int64_t>(), 3);
  EXPECT_EQ(expected.skipped_total().item<int64_t>(), 0);
  for (const auto& item : named) EXPECT_TRUE(torch::equal(item.value(), untroubled[item.key()])) << item.key();
  const NamedTensors state = adamw.state(), wanted = expected.state();
  EXPECT_EQ(state["step"].item<float>(), 3.0F);
  for (const auto& item : wanted) {
    if (item.key() == "skipped_total") continue;
    EXPECT_TRUE(torch::equal(item.value(), state[item.key()])) << item.key();
  }
}

TEST(AdamW, RestoredStateContinuesBitForBit) {
  NamedTensors named = parameters(torch::kFloat32);
  optim::AdamW adamw(named, {});
  for (int step = 0; step < 3; ++step) {
    set_gradients(named, step);
    adamw.step(0.01);
  }
  NamedTensors saved, copy;
  for (const auto& item : adamw.state()) saved.insert(item.key(), item.value().clone());
  for (const auto& item : named) copy.insert(item.key(), item.value().detach().clone().set_requires_grad(true));
  optim::AdamW resumed(copy, {});
  resumed.load_state(saved);
  for (int step = 3; step < 6; ++step) {
    set_gradients(named, step);
    set_gradients(copy, step);
    adamw.step(0.01);
    resumed.step(0.01);
  }
  for (const auto& item : named) EXPECT_TRUE(torch::equal(item.value(), copy[item.key()])) << item.key();
}

TEST(AdamW, StateNamesAreThoseOfTheParameters) {
  NamedTensors named = parameters(torch::kFloat32);
  const NamedTensors state = optim::AdamW(named, {}).state();
  EXPECT_EQ(state.size(), 9U);
  for (const char* name : {"exp_avg.matrix", "exp_avg_sq.matrix", "exp_avg.vector", "exp_avg_sq.other", "step",
                           "skipped_total", "skipped_in_a_row"}) {
    EXPECT_TRUE(state.contains(name)) << name;
  }
}

TEST(AdamW, StateOfAnotherModelIsRefusedWhole) {
  NamedTensors named = parameters(torch::kFloat32);
  optim::AdamW adamw(named, {});
  set_gradients(named, 1);
  adamw.step(0.01);
  const auto refused = [&](const char* part, const std::string& drop, const std::string& replace_name, Tensor with) {
    NamedTensors state;
    for (const auto& item : adamw.state()) {
      if (item.key() != drop) state.insert(item.key(), item.key() == replace_name ? with : item.value() * 2);
    }
    if (with.defined() && !state.contains(replace_name)) state.insert(replace_name, with);
    const float before = adamw.state()["step"].item<float>();
    expect_error(ErrorKind::kData, part, [&] { adamw.load_state(state); });
    EXPECT_EQ(adamw.state()["step"].item<float>(), before) << "part of it was loaded";
  };
  refused("no tensor exp_avg.vector", "exp_avg.vector", "", {});
  refused("exp_avg.matrix is Float of shape [3, 5]", "", "exp_avg.matrix", torch::zeros({3, 5}));
  refused("exp_avg.matrix is Double", "", "exp_avg.matrix", torch::zeros({5, 3}, torch::kFloat64));
  refused("a tensor exp_avg.third", "", "exp_avg.third", torch::zeros({2}));
}

TEST(AdamW, AParameterWithoutAGradientIsAnError) {
  NamedTensors named = parameters(torch::kFloat32);
  optim::AdamW adamw(named, {});
  set_gradients(named, 1);
  named["vector"].mutable_grad().reset();
  expect_error(ErrorKind::kRuntime, "vector has no gradient", [&] { adamw.step(0.01); });
  set_gradients(named, 1);
  adamw.zero_grad();
  EXPECT_FALSE(named["matrix"].grad().defined());
}

}  // namespace
}  // namespace power::test
