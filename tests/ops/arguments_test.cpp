#include <ATen/autocast_mode.h>
#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include <functional>

#include "core/str.h"
#include "ops/problem.h"
#include "tests/ops/cases.h"

// Arguments that do not fit or are not supported, each with its message; autocast; shapes without data.
namespace power::test {
namespace {

void expect_error(const std::function<void()>& call, const std::string& part) {
  try {
    call();
    FAIL() << "accepted; expected an error with '" << part << "'";
  } catch (const c10::ValueError& e) {
    EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << e.what();
  }
}

TEST(Arguments, Messages) {
  const Inputs good = random_inputs({2, 6, 6, 1, 2, 8, 8}, Gating::kMild, true, 2, 1);
  const auto with = [&](const std::function<void(Inputs&)>& change, Options options = {}) {
    return [=] {
      Inputs in = good;
      change(in);
      run(in, options);
    };
  };
  const auto nothing = [](Inputs&) {};
  run(good, {});
  expect_error(with([](Inputs& in) { in.q = in.q[0]; }), "q must be (B,TQ,HQ,D)");
  expect_error(with([](Inputs& in) { in.v = in.v.narrow(1, 0, 5); }), "v must be (B,TK,H,E)");
  expect_error(with([](Inputs& in) { in.k = in.k.narrow(3, 0, 4); }), "k must be (B,TK,H,D)");
  expect_error(with([](Inputs& in) { in.q = torch::cat({in.q, in.q.narrow(2, 0, 1)}, 2); }), "must be a multiple of");
  expect_error(with([](Inputs& in) { in.q = torch::cat({in.q, in.q}, 1); }), "more queries (12) than keys (6)");
  expect_error(with([](Inputs& in) { in.k = in.k.to(torch::kFloat32); }), "k has dtype Float and q Double");
  expect_error(with([](Inputs& in) { in.log_g = in.log_g->narrow(2, 0, 1); }), "log_g must be (B,TK,H)");
  expect_error(with([](Inputs& in) { in.log_g = in.log_g->to(torch::kHalf); }), "log_g has dtype Half");
  expect_error(with([](Inputs& in) { in.key_sum.reset(); }), "belong together");
  expect_error(with([](Inputs& in) { in.state = in.state->narrow(2, 0, 30); }), "initial_state must be (B,H,F,E)");
  expect_error(with([](Inputs& in) { in.state = in.state->to(torch::kFloat32); }), "states must be Double");
  expect_error(with(nothing, {0}), "degree is 0");
  expect_error(with(nothing, {5}), "degree 5 is not supported; supported: 1, 2, 3, 4 and any even degree");
  expect_error(with(nothing, {2, 0.0}), "scale is 0");
  expect_error(with(nothing, {2, NAN}), "scale is nan");
  expect_error(with(nothing, {2, {}, -1}), "chunk_size is -1");
  expect_error(with(nothing, {2, {}, 0, "softmax"}), "normalize is 'softmax'; supported: sum, layer, none");
  expect_error([] { ops::discumsum(torch::zeros({1, 2, 1}, torch::kHalf)); }, "supported: float32, float64");
  ops::StepState past;
  expect_error([&] { ops::power_attention_step(good.q, good.k, good.v, {}, past, 2, {}, 0); }, "switch_over is 0");
}

// A state that does not fit says how large it would be and what to do instead; nothing is allocated.
TEST(Arguments, StatesThatDoNotFit) {
  const Inputs in = random_inputs({1, 4, 4, 1, 3, 64, 64}, Gating::kNone, false, 4, 1).to(torch::kCPU, torch::kFloat32);
  for (const Options& options : {Options{4, {}, 2}, Options{4, {}, 0, "sum", true}, Options{6, {}, 2}}) {
    expect_error([&] { run(in, options); }, "MiB of state");
    expect_error([&] { run(in, options); }, "use the quadratic form (chunk_size 0)");
  }
  expect_error([&] { run(in, {4, {}, 2}); }, str(766480.0 * 65 * 4 / (1 << 20)));
  EXPECT_EQ(std::get<0>(run(in, {4, {}, std::nullopt})).size(1), 4);  // auto takes the quadratic form
}

TEST(Arguments, TheFormThatIsTakenByDefault) {
  const auto choice = [](int64_t degree, int64_t head_dim, int64_t len, ops::Backend backend, int64_t group = 1) {
    ops::Problem p{};
    p.batch = p.heads = 1, p.query_heads = group, p.query_len = p.key_len = len;
    p.head_dim = p.value_dim = head_dim, p.degree = degree;
    return ops::choose_chunk_size(p, backend);
  };
  using ops::Backend;
  EXPECT_EQ(choice(2, 64, 3840, Backend::kHalfKernels), ops::kQuadraticForm);
  EXPECT_EQ(choice(2, 64, 3841, Backend::kHalfKernels), 1024);
  EXPECT_EQ(choice(2, 64, 2500, Backend::kHalfKernels, 4), 1024) << "query heads share the state";
  EXPECT_EQ(choice(2, 48, 4000, Backend::kHalfKernels), 1024) << "head dims between take the next row";
  EXPECT_EQ(choice(1, 64, 512, Backend::kFloat32Kernels), 128);
  EXPECT_EQ(choice(3, 16, 16384, Backend::kHalfKernels), 512);
  EXPECT_EQ(choice(3, 64, 1 << 20, Backend::kHalfKernels), ops::kQuadraticForm) << "no state";
  EXPECT_EQ(choice(6, 16, 1 << 20, Backend::kComposed), ops::kQuadraticForm) << "no state";
  const auto backend = [](at::DeviceType device, at::ScalarType dtype, int64_t head_dim) {
    ops::Problem p{};
    p.head_dim = p.value_dim = head_dim;
    return ops::backend_of(p, device, dtype);
  };
  EXPECT_EQ(backend(at::kCUDA, at::kHalf, 64), Backend::kHalfKernels);
  EXPECT_EQ(backend(at::kCUDA, at::kFloat, 64), Backend::kFloat32Kernels);
  EXPECT_EQ(backend(at::kCUDA, at::kDouble, 64), Backend::kComposed);
  EXPECT_EQ(backend(at::kCUDA, at::kBFloat16, 20), Backend::kComposed);
  EXPECT_EQ(backend(at::kCPU, at::kFloat, 64), Backend::kComposed);
}

TEST(Autocast, CastsTogetherAndKeepsGates) {
  const Inputs in = random_inputs({1, 20, 20, 1, 2, 8, 8}, Gating::kMild, false, 2, 2).to(torch::kCPU, torch::kFloat32);
  const Inputs half = in.to(torch::kCPU, torch::kBFloat16);
  const Inputs x = in.requires_grad();
  at::autocast::set_autocast_enabled(at::kCPU, true);
  at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
  const torch::Tensor y = std::get<0>(run(x, {}));
  at::autocast::set_autocast_enabled(at::kCPU, false);
  at::autocast::clear_cache();
  EXPECT_EQ(y.scalar_type(), torch::kBFloat16);
  EXPECT_TRUE(torch::equal(y, std::get<0>(run(half, {}))));
  y.sum().backward();
  EXPECT_EQ(x.q.grad().scalar_type(), torch::kFloat32);
  EXPECT_EQ(x.log_g->grad().scalar_type(), torch::kFloat32);
}

TEST(Meta, ShapesMatch) {
  for (bool return_state : {false, true}) {
    for (int64_t degree : {1, 2, 3}) {
      const Inputs in = random_inputs({2, 5, 9, 2, 3, 4, 6}, Gating::kMild, true, degree, 3);
      const Inputs meta = in.to(torch::kMeta, torch::kFloat64);
      auto [y, state, key_sum] = run(in, {degree, {}, 0, "sum", return_state});
      auto [my, mstate, mkey_sum] = run(meta, {degree, {}, 0, "sum", return_state});
      EXPECT_EQ(y.sizes(), my.sizes());
      EXPECT_EQ(state.sizes(), mstate.sizes());
      EXPECT_EQ(key_sum.sizes(), mkey_sum.sizes());
    }
  }
}

TEST(MakeInputs, SizesAndSeed) {
  auto [q, k, v, log_g] = ops::make_inputs(2, 50, 3, 16, 2, torch::kFloat32, true, 5);
  EXPECT_EQ(q.sizes(), (torch::IntArrayRef{2, 50, 6, 16}));
  EXPECT_EQ(log_g.sizes(), (torch::IntArrayRef{2, 50, 3}));
  EXPECT_NEAR(q.std().item<double>(), 0.25, 0.01);
  EXPECT_LE(log_g.max().item<double>(), 0);
  EXPECT_NEAR(log_g.mean().item<double>(), -1.6e-3, 4e-4);
  EXPECT_TRUE(torch::equal(q, std::get<0>(ops::make_inputs(2, 50, 3, 16, 2, torch::kFloat32, true, 5))));
  EXPECT_FALSE(torch::equal(q, std::get<0>(ops::make_inputs(2, 50, 3, 16, 2, torch::kFloat32, true, 6))));
  EXPECT_EQ(std::get<3>(ops::make_inputs(1, 2, 1, 4, 1, torch::kFloat32, false)).numel(), 0);
}

}  // namespace
}  // namespace power::test
