#pragma once

#include <cstdint>
#include <iosfwd>
#include <optional>
#include <string>
#include <vector>

// Times the operator on this machine's GPU: `powertrain bench operator`.
namespace power::bench {

struct OperatorShape {
  int64_t batch, len, heads, group = 1, head_dim = 64, degree = 2;
};

struct OperatorBenchOptions {
  std::vector<OperatorShape> shapes;  // empty: the shapes of docs/performance.md
  bool gated = true;
  bool softmax = true;                // cuDNN and flash attention of LibTorch beside it
  std::optional<int64_t> chunk_size;  // as in ops::power_attention
  int repeats = 20;
  bool json = false;
};

struct Timing {
  double median = 0, p90 = 0;  // ms
};

struct OperatorBenchRow {
  OperatorShape shape;
  std::string what;  // "power quadratic", "power chunk 1024", "softmax cuDNN", "softmax flash"
  Timing forward, backward, both;
  double flop_forward = 0, flop_backward = 0;    // useful FLOP: see the text that the table prints
  double bytes_forward = 0, bytes_backward = 0;  // every input read and output written once
  std::string failure;                           // why there are no times
};

struct OperatorBenchResult {
  std::string device;
  double matmul_flops = 0, copy_bytes = 0;  // a second, measured in the same run
  std::vector<OperatorBenchRow> rows;
};

// Parses "B,T,H[,R[,D[,P]]]". Throws Error(kUsage).
OperatorShape parse_shape(const std::string& text);

// Measures and writes a table, or JSON, to out. Throws Error(kRuntime) without a GPU.
OperatorBenchResult run_bench_operator(const OperatorBenchOptions& options, std::ostream& out);

}  // namespace power::bench
