#include "tests/support/golden.h"

#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/cuda.h>
#include <torch/utils.h>

#include <algorithm>
#include <cstdio>

#include "core/str.h"
#include "ops/symmetric_power.h"
#include "tests/ops/cases.h"

// Every golden operator case in every form that its degree and head dim allow, in every precision and on every device
// there is. One line a case: the worst relative error of each precision against its tolerance.
namespace power::test {
namespace {

struct Tolerance {
  torch::Dtype dtype;
  const char* name;
  double y, dqkv, dlog_g;
};
// The files hold float32; the rest is docs/operator.md.
constexpr Tolerance kTolerances[] = {
    {torch::kFloat64, "float64", 2e-7, 2e-7, 2e-7},
    {torch::kFloat32, "float32", 2e-6, 2e-5, 2e-5},
    {torch::kBFloat16, "bfloat16", 0.0058, 0.008, 0.012},
    {torch::kFloat16, "float16", 0.0058, 0.008, 0.012},
};

// Elements of state that a form may hold for all tokens at once (float64: 320 MB).
constexpr int64_t kStateLimit = 40'000'000;

struct Worst {
  double error = 0, over_tolerance = 0;
  std::string where;
  void add(double e, double tolerance, const std::string& what) {
    error = std::max(error, e);
    // Negated, so that NaN counts.
    if (!(e <= tolerance) && !(e / tolerance <= over_tolerance)) {
      over_tolerance = e / tolerance;
      where = str(what, " ", e);
    }
  }
};

// As a whole, and one (batch, head) alone within three times as much.
void compare(const torch::Tensor& x, const torch::Tensor& ref, const torch::Tensor& dy, double tolerance,
             const std::string& what, Worst& worst) {
  worst.add(operator_error(x, ref, dy), tolerance, what);
  for (int64_t b = 0; b < x.size(0); ++b) {
    for (int64_t h = 0; h < x.size(2); ++h) {
      const torch::Tensor part_dy = dy.select(0, b);
      const double e = operator_error(x.select(0, b).select(1, h), ref.select(0, b).select(1, h), part_dy);
      worst.add(e / 3, tolerance, str(what, " (batch ", b, ", head ", h, ") / 3"));
    }
  }
}

void run_form(const GoldenCase& golden, const Inputs& in, int64_t chunk_size, const Tolerance& tolerance,
              const std::string& form, Worst& worst) {
  Options options{golden.meta_int("degree"), golden.meta_double("scale"), chunk_size, golden.meta("normalize")};
  const Inputs x = in.requires_grad();
  const torch::Tensor dy = golden.tensor("dy").to(x.q.device(), x.q.scalar_type());
  const torch::Tensor y = std::get<0>(run(x, options));
  const auto grads = torch::autograd::grad({y}, x.tensors(), {dy});
  compare(y, golden.tensor("y"), golden.tensor("dy"), tolerance.y, form + " y", worst);
  const char* names[] = {"dq", "dk", "dv", "dlog_g"};
  for (size_t i = 0; i < grads.size(); ++i) {
    compare(grads[i], golden.tensor(names[i]), golden.tensor("dy"), i < 3 ? tolerance.dqkv : tolerance.dlog_g,
            str(form, " ", names[i]), worst);
  }
}

// Token by token through the inference step, which folds every token at once: the recurrence itself.
void run_steps(const GoldenCase& golden, const Inputs& in, const Tolerance& tolerance, Worst& worst) {
  torch::NoGradGuard no_grad;
  ops::StepState past;
  std::vector<torch::Tensor> rows;
  const int64_t tokens = in.k.size(1), first_query = tokens - in.q.size(1), heads = in.q.size(2);
  for (int64_t t = 0; t < tokens; ++t) {
    // Keys without a query of their own are stepped with a zero query.
    const torch::Tensor q = t < first_query ? torch::zeros({in.q.size(0), 1, heads, in.q.size(3)}, in.q.options())
                                            : in.q.narrow(1, t - first_query, 1);
    const OptTensor log_g = in.log_g ? OptTensor(in.log_g->narrow(1, t, 1)) : OptTensor();
    const torch::Tensor y =
        ops::power_attention_step(q, in.k.narrow(1, t, 1), in.v.narrow(1, t, 1), log_g, past, golden.meta_int("degree"),
                                  golden.meta_double("scale"), 1, golden.meta("normalize"));
    if (t >= first_query) rows.push_back(y);
  }
  compare(torch::cat(rows, 1), golden.tensor("y"), golden.tensor("dy"), tolerance.y, "steps y", worst);
}

void run_case(const GoldenCase& golden, torch::Device device, bool& said_why) {
  const int64_t degree = golden.meta_int("degree"), head_dim = golden.tensor("q").size(3);
  const int64_t tokens = golden.tensor("k").size(1);
  const bool has_state = degree <= 2 || (degree <= 4 && head_dim <= 32);
  Inputs base{golden.tensor("q"), golden.tensor("k"), golden.tensor("v"), {}, {}, {}};
  if (golden.has("log_g")) base.log_g = golden.tensor("log_g");

  std::string line = golden.name + (device.is_cuda() ? " [cuda]" : "");
  for (const Tolerance& tolerance : kTolerances) {
    const Inputs in = base.to(device, tolerance.dtype);
    Worst worst;
    run_form(golden, in, ops::kQuadraticForm, tolerance, "quadratic", worst);
    if (has_state) {
      const int64_t state = ops::state_dim(head_dim, degree) * (in.v.size(3) + 1) * in.k.size(0) * in.k.size(2);
      for (int64_t chunk : {1, 16, 64, 100}) {
        const bool once = tolerance.dtype == torch::kFloat64 || chunk == 64;
        if (once && chunk < tokens && state * (tokens / chunk) <= kStateLimit) {
          run_form(golden, in, chunk, tolerance, str("chunks of ", chunk), worst);
        }
      }
      run_form(golden, in, std::max<int64_t>(1, (tokens + 1) / 2), tolerance, "halves", worst);
      if (tolerance.dtype == torch::kFloat64) run_steps(golden, in, tolerance, worst);
    }
    line += str("  ", tolerance.name, " ", worst.error);
    EXPECT_EQ(worst.over_tolerance, 0) << golden.name << " on " << device << ", " << tolerance.name << ": "
                                       << worst.where;
  }
  if (!has_state) {
    line += str("  (quadratic only: a state of degree ", degree, " at head dim ", head_dim, " has ",
                ops::state_dim(head_dim, degree), " x ", head_dim + 1, " numbers)");
    said_why = true;
  }
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);
}

TEST(Golden, PowerAttention) {
  const auto files = golden_cases("power_attention");
  bool said_why = false;
  for (const auto& file : files) {
    SCOPED_TRACE(file.string());
    const GoldenCase golden = read_golden(file);
    run_case(golden, torch::kCPU, said_why);
    if (torch::cuda::is_available()) run_case(golden, torch::kCUDA, said_why);
  }
  std::printf("%zu cases%s\n", files.size(), torch::cuda::is_available() ? "" : "; no GPU here, CPU only");
}

}  // namespace
}  // namespace power::test
