#include "bench/operator_report.h"

#include <ATen/ATen.h>

#include <iomanip>
#include <ostream>
#include <utility>

#include "core/error.h"
#include "core/format.h"
#include "core/version.h"

namespace power::bench {
namespace {

constexpr double kSmallShare = 0.005;  // of a pass: kernels below it share a line

using Passes = std::vector<std::pair<const char*, const Pass*>>;

Passes passes_of(const OperatorBenchRow& row) {
  return {{"forward", &row.forward}, {"backward", &row.backward}, {"both", &row.both}};
}

const OperatorBenchRow* find_row(const std::vector<OperatorBenchRow>& rows, Attention attention) {
  for (const OperatorBenchRow& row : rows) {
    if (row.attention == attention && row.failure.empty()) return &row;
  }
  return nullptr;
}

void print_row(const OperatorBenchRow& row, const OperatorBenchRow* cudnn, const OperatorBenchResult& result,
               std::ostream& out) {
  const auto left = [&](const std::string& text, int width) -> std::ostream& {
    return out << std::left << std::setw(width) << text;
  };
  left(to_string(row.shape), 21);
  left(row.what, 18);
  if (!row.failure.empty()) {
    out << row.failure << "\n";
    return;
  }
  const Passes of_cudnn = cudnn == nullptr ? Passes() : passes_of(*cudnn);
  const Passes passes = passes_of(row);
  for (size_t i = 0; i < passes.size(); ++i) {
    const Pass& pass = *passes[i].second;
    if (i > 0) out << std::string(39, ' ');
    left(passes[i].first, 8);
    const double flops = pass.per_second(pass.work.flop);
    out << format_number("%10.3f", pass.median) << format_number("%10.3f", pass.p90)
        << format_number("%10.4g", flops * 1e-12) << format_number("%7.1f%%", 100 * flops / result.matmul_flops)
        << format_number("%9.4g", pass.per_second(pass.work.bytes) * 1e-9)
        << format_number("%9.3g", pass.per_second(row.tokens()) * 1e-6);
    if (cudnn != nullptr) out << format_number("%9.2f", pass.median / of_cudnn[i].second->median);
    out << "\n";
  }
}

void print_kernels(const OperatorBenchRow& row, std::ostream& out) {
  for (const auto& [name, pass] : passes_of(row)) {
    if (pass->kernels.empty()) continue;
    double sum = 0;
    for (const KernelTime& kernel : pass->kernels) sum += kernel.ms;
    out << "\n"
        << to_string(row.shape) << " " << row.what << ", " << name << ": " << format_number("%.3f ms", pass->median)
        << ", kernels under the profiler " << format_number("%.3f ms", sum) << "\n        ms   share  calls  kernel\n";
    const auto line = [&](double ms, int64_t calls, const std::string& text) {
      out << format_number("%10.4f", ms) << format_number("%7.1f%%", 100 * ms / sum) << std::right << std::setw(7)
          << calls << "  " << text << "\n";
    };
    KernelTime rest;
    size_t small = 0;
    for (const KernelTime& kernel : pass->kernels) {
      if (kernel.ms >= kSmallShare * sum) {
        line(kernel.ms, kernel.calls, short_kernel_name(kernel.name, 80));
        continue;
      }
      ++small;
      rest.calls += kernel.calls;
      rest.ms += kernel.ms;
    }
    if (small > 0) line(rest.ms, rest.calls, str(small, " others"));
  }
}

nlohmann::ordered_json pass_json(const OperatorBenchRow& row, const Pass& pass, const OperatorBenchResult& result) {
  const double flops = pass.per_second(pass.work.flop);
  nlohmann::ordered_json json = {{"median_ms", pass.median},
                                 {"p90_ms", pass.p90},
                                 {"flop", pass.work.flop},
                                 {"bytes", pass.work.bytes},
                                 {"flop_per_s", flops},
                                 {"of_matmul", flops / result.matmul_flops},
                                 {"bytes_per_s", pass.per_second(pass.work.bytes)},
                                 {"tokens_per_s", pass.per_second(row.tokens())}};
  if (pass.kernels.empty()) return json;
  json["kernels"] = nlohmann::ordered_json::array();
  for (const KernelTime& kernel : pass.kernels) {
    json["kernels"].push_back({{"name", kernel.name}, {"calls", kernel.calls}, {"ms", kernel.ms}});
  }
  return json;
}

}  // namespace

void print_head(const OperatorBenchResult& result, const OperatorBenchOptions& options, std::ostream& out) {
  const bool gpu = result.device.rfind("CPU", 0) != 0;
  out << result.device << ": " << format_number("%.3g", result.matmul_flops * 1e-12) << " TFLOP/s " << result.product
      << ", " << format_number("%.3g", result.copy_bytes * 1e-12) << " TB/s copy, measured now\n"
      << "median and 90th percentile of " << options.repeats << " runs" << (gpu ? ", L2 overwritten before each" : "")
      << ";\n"
      << kWorkText << "\n"
      << std::left << std::setw(21) << "B,T,H,R,D,P" << std::setw(18) << "attention" << std::setw(8) << "pass"
      << "        ms       p90   TFLOP/s   of mm     GB/s   Mtok/s" << (gpu ? "  / cuDNN" : "") << std::endl;
}

void print_shape(const std::vector<OperatorBenchRow>& rows, const OperatorBenchResult& result, std::ostream& out) {
  const OperatorBenchRow* cudnn = find_row(rows, Attention::kCudnn);
  for (const OperatorBenchRow& row : rows) print_row(row, cudnn, result, out);
  for (const OperatorBenchRow& row : rows) print_kernels(row, out);
  out << std::flush;
}

nlohmann::ordered_json bench_json(const OperatorBenchResult& result, const OperatorBenchOptions& options) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const OperatorBenchRow& row : result.rows) {
    const OperatorShape& s = row.shape;
    nlohmann::ordered_json entry = {{"batch", s.batch}, {"len", s.len},           {"heads", s.heads},
                                    {"group", s.group}, {"head_dim", s.head_dim}, {"degree", s.degree},
                                    {"what", row.what}};
    if (row.failure.empty()) {
      entry["forward"] = pass_json(row, row.forward, result);
      entry["backward"] = pass_json(row, row.backward, result);
      entry["forward_backward"] = pass_json(row, row.both, result);
    } else {
      entry["failure"] = row.failure;
    }
    rows.push_back(std::move(entry));
  }
  return {{"device", result.device},
          {"program", options.program},
          {"libtorch", POWERTRAIN_LIBTORCH_VERSION},
          {"cuda", POWERTRAIN_CUDA_VERSION},
          {"gated", options.gated},
          {"repeats", options.repeats},
          {"matmul_flops", result.matmul_flops},
          {"copy_bytes_per_s", result.copy_bytes},
          {"rows", std::move(rows)}};
}

}  // namespace power::bench
