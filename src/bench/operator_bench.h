#pragma once

#include <cstdint>
#include <iosfwd>
#include <optional>
#include <string>
#include <vector>

#include "bench/kernel_profile.h"
#include "bench/operator_shape.h"
#include "bench/workload.h"

// Times the operator on this machine: `powertrain bench operator`.
namespace power::bench {

struct OperatorBenchOptions {
  std::vector<OperatorShape> shapes;  // empty: the shapes of docs/performance.md
  std::vector<int64_t> contexts;      // instead: the one shape's tokens in sequences of each of these lengths
  bool gated = true;
  bool softmax = true;                // cuDNN and flash attention of LibTorch beside it
  std::optional<int64_t> chunk_size;  // as in ops::power_attention
  int repeats = 20;
  bool breakdown = false;  // time by kernel as well
  bool json = false;
  std::string svg;                  // with contexts: a chart of tokens/s goes into this file
  std::string device = "auto";      // the GPU; cuda; cpu
  std::string program = "unknown";  // version and commit, for the JSON
};

struct Pass {
  double median = 0, p90 = 0;  // ms
  Work work;
  std::vector<KernelTime> kernels;  // with breakdown; not of both passes together

  double per_second(double amount) const { return median > 0 ? amount / (median * 1e-3) : 0; }
};

struct OperatorBenchRow {
  OperatorShape shape{};
  Attention attention = Attention::kPower;
  std::string what;  // as Workload has it
  Pass forward, backward, both;
  std::string failure;  // why there are no times

  double tokens() const { return static_cast<double>(shape.batch * shape.len); }
};

struct OperatorBenchResult {
  std::string device;
  std::string product;                      // what matmul_flops was measured on
  double matmul_flops = 0, copy_bytes = 0;  // a second, measured in the same run
  std::vector<OperatorBenchRow> rows;
};

// Measures and writes a table, or JSON, to out. Throws Error(kUsage) for options that contradict each other and
// Error(kRuntime) without a GPU, unless the device is the CPU.
OperatorBenchResult run_bench_operator(const OperatorBenchOptions& options, std::ostream& out);

}  // namespace power::bench
