#include "bench/operator_bench.h"

#include <ATen/Context.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/cuda.h>

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <nlohmann/json.hpp>
#include <ostream>

#include "bench/timer.h"
#include "core/error.h"
#include "core/format.h"
#include "ops/ops.h"
#include "ops/problem.h"

namespace power::bench {
namespace {

Timing summary(std::vector<double> times) {
  std::sort(times.begin(), times.end());
  return {times[times.size() / 2], times[times.size() * 9 / 10]};
}

std::vector<double> sums(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> total(a.size());
  for (size_t i = 0; i < a.size(); ++i) total[i] = a[i] + b[i];
  return total;
}

at::TensorOptions bf16() { return at::TensorOptions().dtype(at::kBFloat16).device(at::kCUDA); }

// FLOP/s of an 8192 x 8192 x 8192 bf16 product and bytes/s (read and written) of a device copy, on random data.
void measure_ceilings(GpuTimer& timer, OperatorBenchResult& result) {
  constexpr int64_t kSize = 8192, kCopy = int64_t{1} << 31;
  const at::Tensor a = at::randn({kSize, kSize}, bf16()), b = at::randn({kSize, kSize}, bf16());
  at::Tensor c = at::empty({kSize, kSize}, bf16());
  const Timing product = summary(timer.run({[&] { at::mm_out(c, a, b.t()); }}, 10)[0]);
  result.matmul_flops = 2.0 * kSize * kSize * kSize / (product.median * 1e-3);
  const at::Tensor from = at::randn({kCopy / 2}, bf16());
  at::Tensor to = at::empty_like(from);
  result.copy_bytes = 2.0 * kCopy / (summary(timer.run({[&] { to.copy_(from); }}, 10)[0]).median * 1e-3);
}

// The form that a shape runs in: the operator's own choice where the caller leaves it open.
int64_t chunk_of(const OperatorShape& s, const OperatorBenchOptions& options) {
  if (options.chunk_size.has_value()) return *options.chunk_size;
  ops::Problem problem{};
  problem.batch = s.batch, problem.query_len = problem.key_len = s.len;
  problem.heads = s.heads, problem.query_heads = s.heads * s.group;
  problem.head_dim = problem.value_dim = s.head_dim, problem.degree = s.degree;
  return ops::choose_chunk_size(problem, at::kCUDA);
}

// Useful work: a visible pair costs 4 D forward and 10 D backward (five products), as for softmax; the chunked form
// pays that inside its chunks, and 2 F E (1 + 1/R) and twice that for its states.
void count_work(OperatorBenchRow& row, int64_t chunk) {
  const OperatorShape& s = row.shape;
  const double tokens = static_cast<double>(s.batch * s.len * s.heads * s.group), D = static_cast<double>(s.head_dim);
  const double span = static_cast<double>(chunk > 0 ? std::min(chunk, s.len) : s.len);
  double features = 1;
  for (int64_t i = 0; i < s.degree; ++i) features *= (D + static_cast<double>(i)) / static_cast<double>(i + 1);
  const double state = chunk > 0 ? features * D * (1 + 1.0 / static_cast<double>(s.group)) : 0;
  row.flop_forward = tokens * (2 * span * D + 2 * state);
  row.flop_backward = tokens * (5 * span * D + 4 * state);
  const double query_bytes = tokens * D * 2, key_bytes = query_bytes / static_cast<double>(s.group);
  row.bytes_forward = 2 * query_bytes + 2 * key_bytes;
  row.bytes_backward = 4 * query_bytes + 4 * key_bytes;
}

using Forward = std::function<at::Tensor()>;

void measure(GpuTimer& timer, OperatorBenchRow& row, const Forward& forward, const std::vector<at::Tensor>& inputs,
             const at::Tensor& dy, int repeats) {
  try {
    at::Tensor y;
    const auto backward = [&] { torch::autograd::grad({y}, inputs, {dy}); };
    const auto times = timer.run({[&] { y = forward(); }, backward}, repeats);
    row.forward = summary(times[0]);
    row.backward = summary(times[1]);
    row.both = summary(sums(times[0], times[1]));
  } catch (const c10::Error& error) {
    row.failure = error.what_without_backtrace();
    row.failure = row.failure.substr(0, row.failure.find('\n'));
  }
}

struct Tensors {
  at::Tensor q, k, v, log_g, dy;
  std::vector<at::Tensor> inputs;
};

Tensors make_tensors(const OperatorShape& s, bool gated) {
  const double size = 1 / std::sqrt(static_cast<double>(s.head_dim));
  Tensors p;
  p.q = (at::randn({s.batch, s.len, s.heads * s.group, s.head_dim}, bf16()) * size).requires_grad_();
  p.k = (at::randn({s.batch, s.len, s.heads, s.head_dim}, bf16()) * size).requires_grad_();
  p.v = (at::randn({s.batch, s.len, s.heads, s.head_dim}, bf16()) * size).requires_grad_();
  p.dy = at::randn_like(p.q).detach();
  p.inputs = {p.q, p.k, p.v};
  if (gated) {
    const at::TensorOptions wide = bf16().dtype(at::kFloat);
    p.log_g = at::log_sigmoid(6.906768 + at::randn({s.batch, s.len, s.heads}, wide)).requires_grad_();
    p.inputs.push_back(p.log_g);
  }
  return p;
}

OperatorBenchRow measure_power(GpuTimer& timer, const OperatorShape& s, const OperatorBenchOptions& options) {
  const int64_t chunk = chunk_of(s, options);
  OperatorBenchRow row;
  row.shape = s;
  row.what = chunk == 0 ? "power quadratic" : str("power chunk ", chunk);
  count_work(row, chunk);
  const Tensors p = make_tensors(s, options.gated);
  const ops::OptTensor log_g = options.gated ? ops::OptTensor(p.log_g) : ops::OptTensor();
  const auto forward = [&] {
    return std::get<0>(ops::power_attention(p.q, p.k, p.v, log_g, {}, {}, s.degree, {}, chunk));
  };
  measure(timer, row, forward, p.inputs, p.dy, options.repeats);
  return row;
}

// One of LibTorch's scaled_dot_product_attention implementations alone; the previous choice comes back at the end.
OperatorBenchRow measure_softmax(GpuTimer& timer, const OperatorShape& s, bool cudnn, int repeats) {
  OperatorBenchRow row;
  row.shape = s;
  row.what = cudnn ? "softmax cuDNN" : "softmax flash";
  count_work(row, 0);
  at::Context& context = at::globalContext();
  const bool was_cudnn = context.userEnabledCuDNNSDP(), was_flash = context.userEnabledFlashSDP();
  const bool was_memory = context.userEnabledMemEfficientSDP(), was_math = context.userEnabledMathSDP();
  context.setSDPUseCuDNN(cudnn);
  context.setSDPUseFlash(!cudnn);
  context.setSDPUseMemEfficient(false);
  context.setSDPUseMath(false);
  const Tensors p = make_tensors(s, false);
  const at::Tensor q = p.q.transpose(1, 2), k = p.k.transpose(1, 2), v = p.v.transpose(1, 2);
  const auto forward = [&] {
    return at::scaled_dot_product_attention(q, k, v, {}, 0.0, /*is_causal=*/true, std::nullopt, s.group > 1);
  };
  measure(timer, row, forward, p.inputs, p.dy.transpose(1, 2), repeats);
  context.setSDPUseCuDNN(was_cudnn);
  context.setSDPUseFlash(was_flash);
  context.setSDPUseMemEfficient(was_memory);
  context.setSDPUseMath(was_math);
  return row;
}

std::string shape_text(const OperatorShape& s) {
  return str(s.batch, ",", s.len, ",", s.heads, ",", s.group, ",", s.head_dim, ",", s.degree);
}

void print_row(const OperatorBenchRow& row, const OperatorBenchResult& result, std::ostream& out) {
  out << std::left << std::setw(20) << shape_text(row.shape) << std::setw(18) << row.what;
  if (!row.failure.empty()) {
    out << row.failure << std::endl;
    return;
  }
  for (const Timing& time : {row.forward, row.backward, row.both}) {
    out << format_number("%9.3f", time.median) << format_number(" (%7.3f)", time.p90);
  }
  const double seconds = row.both.median * 1e-3, flops = (row.flop_forward + row.flop_backward) / seconds;
  out << format_number("%8.1f", flops * 1e-12) << format_number("%7.1f%%", 100 * flops / result.matmul_flops)
      << format_number("%9.1f", (row.bytes_forward + row.bytes_backward) / seconds * 1e-9) << std::endl;
}

nlohmann::json to_json(const OperatorBenchResult& result) {
  const auto timing = [](const Timing& t) { return nlohmann::json{{"median_ms", t.median}, {"p90_ms", t.p90}}; };
  nlohmann::json rows = nlohmann::json::array();
  for (const OperatorBenchRow& row : result.rows) {
    const OperatorShape& s = row.shape;
    nlohmann::json entry = {{"batch", s.batch},       {"len", s.len},       {"heads", s.heads}, {"group", s.group},
                            {"head_dim", s.head_dim}, {"degree", s.degree}, {"what", row.what}};
    if (row.failure.empty()) {
      entry.update({{"forward", timing(row.forward)},
                    {"backward", timing(row.backward)},
                    {"forward_backward", timing(row.both)},
                    {"flop_forward", row.flop_forward},
                    {"flop_backward", row.flop_backward},
                    {"bytes_forward", row.bytes_forward},
                    {"bytes_backward", row.bytes_backward}});
    } else {
      entry["failure"] = row.failure;
    }
    rows.push_back(entry);
  }
  return {{"device", result.device},
          {"matmul_flops", result.matmul_flops},
          {"copy_bytes_per_s", result.copy_bytes},
          {"rows", rows}};
}

}  // namespace

OperatorShape parse_shape(const std::string& text) {
  OperatorShape shape{};
  int64_t* const fields[] = {&shape.batch, &shape.len, &shape.heads, &shape.group, &shape.head_dim, &shape.degree};
  size_t count = 0, at = 0;
  while (at <= text.size() && count < 6) {
    const size_t comma = std::min(text.find(',', at), text.size());
    const std::string part = text.substr(at, comma - at);
    require(!part.empty() && part.size() <= 9 && part.find_first_not_of("0123456789") == std::string::npos &&
                std::stoll(part) > 0,
            ErrorKind::kUsage, "--shape ", text, ": '", part, "' is no positive number; write B,T,H[,R[,D[,P]]]");
    *fields[count++] = std::stoll(part);
    at = comma + 1;
  }
  require(count >= 3 && at > text.size(), ErrorKind::kUsage, "--shape ", text,
          ": write batch, length, heads and, if wanted, query heads per head, head dim, degree: B,T,H[,R[,D[,P]]]");
  return shape;
}

OperatorBenchResult run_bench_operator(const OperatorBenchOptions& options, std::ostream& out) {
  require(torch::cuda::is_available(), ErrorKind::kRuntime,
          "bench operator: no CUDA device is usable, and times on a CPU say nothing; see powertrain doctor");
  GpuTimer timer;
  OperatorBenchResult result;
  result.device = gpu_name();
  measure_ceilings(timer, result);
  if (!options.json) {
    out << result.device << ": " << format_number("%.0f", result.matmul_flops * 1e-12)
        << " TFLOP/s bf16 product of 8192^3, " << format_number("%.2f", result.copy_bytes * 1e-12)
        << " TB/s copy, measured now\n"
        << "ms, median (90th percentile) of " << options.repeats << ", L2 overwritten before each; TFLOP/s and GB/s of "
        << "forward + backward;\nFLOP: 4 D forward and 10 D backward a visible pair, states of the chunked form "
        << "2 F D (1 + 1/R) and twice that; bytes: every input and output once\n"
        << "B,T,H,R,D,p         what                  forward           backward             both        "
        << "TFLOP/s  of mm      GB/s" << std::endl;
  }
  std::vector<OperatorShape> shapes = options.shapes;
  if (shapes.empty()) {
    shapes = {{64, 1024, 12}, {16, 4096, 8}, {8, 8192, 12}, {1, 16384, 12}, {1, 65536, 8}};
  }
  for (const OperatorShape& shape : shapes) {
    const auto add = [&](const OperatorBenchRow& row) {
      result.rows.push_back(row);
      if (!options.json) print_row(row, result, out);
    };
    add(measure_power(timer, shape, options));
    if (!options.softmax) continue;
    for (const bool cudnn : {true, false}) add(measure_softmax(timer, shape, cudnn, options.repeats));
  }
  if (options.json) out << to_json(result).dump(2) << std::endl;
  return result;
}

}  // namespace power::bench
