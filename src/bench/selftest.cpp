#include "bench/selftest.h"

#include <torch/csrc/autograd/autograd.h>
#include <torch/cuda.h>

#include <limits>
#include <nlohmann/json.hpp>
#include <ostream>

#include "bench/error_metric.h"
#include "core/error.h"
#include "core/format.h"
#include "ops/ops.h"

namespace power::bench {
namespace {

struct Grid {
  int64_t batch, len, heads, group, head_dim, degree;
  std::string gates;  // none, mild, strong, closed, segments
  at::ScalarType dtype;
  int64_t chunk_size;  // 0: quadratic
  std::string normalize;

  std::string name() const {
    const char* type = dtype == at::kBFloat16 ? "bf16" : dtype == at::kHalf ? "fp16" : "fp32";
    return str("B", batch, "_T", len, "_H", heads, "_R", group, "_D", head_dim, "_p", degree, "_", gates, "_",
               normalize, "_", type, "_", chunk_size == 0 ? "quadratic" : str("chunk", chunk_size));
  }
};

std::vector<Grid> make_grid(bool cuda, bool quick) {
  std::vector<Grid> grid;
  const auto add = [&](int64_t len, int64_t group, int64_t head_dim, int64_t degree, const char* gates,
                       int64_t chunk_size, const char* normalize = "sum") {
    std::vector<at::ScalarType> dtypes = {at::kFloat};
    if (cuda) dtypes = {at::kBFloat16, at::kHalf, at::kFloat};
    for (at::ScalarType dtype : dtypes) {
      grid.push_back({len > 600 ? 1 : 2, len, 2, group, head_dim, degree, gates, dtype, chunk_size, normalize});
    }
  };
  add(129, 1, 64, 2, "mild", 0);
  add(129, 2, 64, 2, "segments", 64);
  add(65, 1, 32, 1, "none", 0, "layer");
  add(200, 3, 32, 4, "strong", 0);
  if (quick) return grid;
  for (int64_t len : {1, 7, 63, 64, 127, 239, 1000, 1025}) add(len, 1, 64, 2, "mild", 0);
  for (const char* gates : {"none", "strong", "closed", "segments"}) add(333, 2, 64, 2, gates, 0);
  for (int64_t head_dim : {16, 48, 96, 128}) add(150, 1, head_dim, 2, "mild", 0);
  for (int64_t degree : {2, 4, 6}) add(150, 1, 64, degree, "segments", 0, "none");
  for (int64_t chunk_size : {64, 100, 128}) add(333, 2, 64, 2, chunk_size == 100 ? "segments" : "mild", chunk_size);
  for (int64_t head_dim : {16, 128}) add(300, 1, head_dim, 2, "mild", 128);
  add(300, 1, 64, 1, "mild", 128, "layer");
  add(200, 2, 16, 4, "mild", 64);
  add(200, 1, 32, 3, "segments", 64, "none");
  add(150, 1, 8, 4, "strong", 64, "layer");
  return grid;
}

struct Inputs {
  at::Tensor q, k, v, log_g, dy;
};

Inputs make_case(const Grid& g, int64_t seed) {
  auto [q, k, v, log_g] =
      ops::make_inputs(g.batch, g.len, g.heads, g.head_dim, g.group, g.dtype, g.gates != "none", seed);
  // Every query gets a part of its own key. One that sees few keys could otherwise find nothing but scores near 0, and
  // its gradient is then rounding over a vanishing normaliser, in any precision: a test of the seed. Not with strong
  // gates, where queries would see little else than that key and have small gradients (with closed ones they vanish
  // anyway, and errors are held against dY).
  if (g.gates != "strong") {
    q = (q.to(at::kFloat) + 0.5 * k.to(at::kFloat).repeat_interleave(g.group, 2)).to(g.dtype);
  }
  at::manual_seed(seed + 1);
  Inputs in{q, k, v, log_g, at::randn(q.sizes(), at::kFloat).to(g.dtype)};
  if (g.gates == "strong") in.log_g = -2.0 * at::randn(log_g.sizes()).abs();
  if (g.gates == "closed") in.log_g = -60.0 - 5.0 * at::randn(log_g.sizes()).abs();
  if (g.gates == "segments") {  // also on a tile's edge
    in.log_g = at::where(at::rand(log_g.sizes()) < 0.03, -std::numeric_limits<float>::infinity(), log_g);
    if (g.len > 64) in.log_g.select(1, 64).fill_(-std::numeric_limits<float>::infinity());
  }
  return in;
}

std::vector<at::Tensor> forward_backward(const Grid& g, const Inputs& in, at::Device device, bool wide, bool cuda) {
  // On CUDA float16 goes through bfloat16, but for chunks of which the bf16 kernels have none (docs/kernels.md): what
  // is checked is the operator of the rounded inputs.
  const bool through_float32 = g.chunk_size > 0 && (g.degree > 2 || g.chunk_size % 64 != 0);
  const bool rounded = wide && cuda && g.dtype == at::kHalf && !through_float32;
  const auto rounding = [&](const at::Tensor& x) { return rounded ? x.to(at::kBFloat16) : x; };
  const auto leaf = [&](const at::Tensor& x, at::ScalarType dtype) {
    return rounding(x).to(device, wide ? at::kDouble : dtype).detach().clone().requires_grad_();
  };
  std::vector<at::Tensor> inputs = {leaf(in.q, g.dtype), leaf(in.k, g.dtype), leaf(in.v, g.dtype)};
  ops::OptTensor log_g;
  if (g.gates != "none") {
    inputs.push_back(in.log_g.to(device, wide ? at::kDouble : at::kFloat).detach().clone().requires_grad_());
    log_g = inputs.back();
  }
  const at::Tensor y = std::get<0>(ops::power_attention(inputs[0], inputs[1], inputs[2], log_g, {}, {}, g.degree, {},
                                                        wide ? ops::kQuadraticForm : g.chunk_size, g.normalize));
  std::vector<at::Tensor> out = torch::autograd::grad({y}, inputs, {rounding(in.dy).to(device, y.scalar_type())});
  out.insert(out.begin(), y.detach());
  return out;
}

SelftestCase run_case(const Grid& g, at::Device device, int64_t seed) {
  static const char* const kNames[] = {"y", "dq", "dk", "dv", "dlog_g"};
  const bool narrow = g.dtype != at::kFloat;
  const double tolerances[] = {narrow ? 0.0058 : 2e-6, narrow ? 0.008 : 2e-5, narrow ? 0.008 : 2e-5,
                               narrow ? 0.008 : 2e-5, narrow ? 0.012 : 2e-5};
  SelftestCase result{g.name(), {}, ""};
  try {
    const Inputs in = make_case(g, seed);
    const auto expected = forward_backward(g, in, at::kCPU, true, device.is_cuda());
    const auto first = forward_backward(g, in, device, false, device.is_cuda());
    const auto second = forward_backward(g, in, device, false, device.is_cuda());
    for (size_t i = 0; i < first.size(); ++i) {
      if (!at::equal(first[i], second[i])) result.failure = str(kNames[i], ": two runs differ");
      const Error error = measure_error(first[i], expected[i], in.dy);
      result.tensors.push_back(
          {kNames[i], error.whole, tolerances[i], error.part, error.where, error.within(tolerances[i])});
    }
  } catch (const std::exception& error) {
    result.failure = std::string(error.what()).substr(0, std::string(error.what()).find('\n'));
  }
  return result;
}

void print_case(const SelftestCase& c, std::ostream& out) {
  out << (c.passed() ? "PASS " : "FAIL ") << c.name;
  for (const SelftestTensor& t : c.tensors) {
    out << "  " << t.name << " " << format_number("%.2g", t.error) << "/" << format_number("%.2g", t.tolerance);
    if (!t.passed) out << " (part " << format_number("%.2g", t.part) << " at " << t.where << ")";
  }
  if (!c.failure.empty()) out << "  " << c.failure;
  out << std::endl;
}

}  // namespace

bool SelftestCase::passed() const {
  for (const SelftestTensor& t : tensors) {
    if (!t.passed) return false;
  }
  return failure.empty();
}

std::vector<SelftestCase> run_selftest(const SelftestOptions& options, std::ostream& out) {
  const bool cuda = options.device == "cuda" || (options.device == "auto" && torch::cuda::is_available());
  require(!cuda || torch::cuda::is_available(), ErrorKind::kRuntime,
          "selftest: no CUDA device is usable; see powertrain doctor, or pass --device cpu");
  const at::Device device(cuda ? at::kCUDA : at::kCPU);
  std::vector<SelftestCase> cases;
  nlohmann::json json = nlohmann::json::array();
  for (const Grid& g : make_grid(cuda, options.quick)) {
    cases.push_back(run_case(g, device, 1 + static_cast<int64_t>(cases.size())));
    const SelftestCase& c = cases.back();
    if (!options.json) {
      print_case(c, out);
      continue;
    }
    nlohmann::json tensors = nlohmann::json::object();
    for (const SelftestTensor& t : c.tensors) {
      tensors[t.name] = {{"error", t.error}, {"tolerance", t.tolerance}, {"worst_part", t.part}, {"where", t.where}};
    }
    json.push_back({{"name", c.name}, {"passed", c.passed()}, {"failure", c.failure}, {"tensors", tensors}});
  }
  if (options.json) out << json.dump(2) << std::endl;
  return cases;
}

}  // namespace power::bench
