#include <iostream>

#include "bench/operator_bench.h"
#include "cli/command.h"
#include "cli/git_commit.h"
#include "core/version.h"

namespace power::cli {
namespace {

int run_bench(const Arguments& arguments) {
  bench::OperatorBenchOptions options;
  for (const std::string& shape : arguments.texts("shape")) options.shapes.push_back(bench::parse_shape(shape));
  if (arguments.has("contexts")) options.contexts = bench::parse_contexts(arguments.text("contexts"));
  options.gated = !arguments.has("no_gates");
  options.softmax = !arguments.has("no_softmax");
  if (arguments.has("chunk_size")) options.chunk_size = arguments.integer("chunk_size", 0);
  options.repeats = static_cast<int>(arguments.integer("repeats", options.repeats, 1, 10000));
  options.breakdown = arguments.has("breakdown");
  options.json = arguments.has("json");
  options.svg = arguments.text("svg");
  options.device = arguments.text("device", options.device);
  options.program = "powertrain " POWERTRAIN_VERSION " (" POWERTRAIN_GIT_COMMIT ")";
  bench::run_bench_operator(options, std::cout);
  return 0;
}

}  // namespace

Command bench_operator_command() {
  return {.name = "bench operator",
          .summary = "time power attention, beside softmax attention: forward, backward and both",
          .options = {{.name = "shape",
                       .takes = Takes::kOne,
                       .value = "B,T,H[,R[,D[,P]]]",
                       .help = "batch, length, heads, query heads per head [1], head dim [64], degree [2]",
                       .repeatable = true},
                      {.name = "contexts",
                       .takes = Takes::kOne,
                       .value = "T,T,...",
                       .help = "throughput by context: the shape's tokens in sequences of each of these lengths "
                               "[of --shape 1,65536,12]"},
                      {.name = "svg",
                       .takes = Takes::kOne,
                       .value = "FILE",
                       .help = "with --contexts: draw tokens/s over the context",
                       .is_path = true},
                      {.name = "breakdown", .help = "time by kernel as well, from LibTorch's profiler"},
                      {.name = "chunk_size",
                       .takes = Takes::kOne,
                       .value = "N",
                       .help = "0: quadratic form [as the operator chooses]"},
                      {.name = "no_gates", .help = "without gates"},
                      {.name = "no_softmax", .help = "without cuDNN and flash attention beside it"},
                      {.name = "repeats", .takes = Takes::kOne, .value = "N", .help = "timed runs [20]"},
                      {.name = "device",
                       .takes = Takes::kOne,
                       .value = "DEVICE",
                       .help = "auto: the GPU, in bf16; cpu: float32 [auto]",
                       .choices = {"auto", "cuda", "cpu"}},
                      json_option()},
          .examples = {"powertrain bench operator", "powertrain bench operator --shape 64,1024,12 --shape 1,16384,12,4",
                       "powertrain bench operator --shape 1,65536,8 --breakdown",
                       "powertrain bench operator --contexts 1024,4096,16384,65536 --svg contexts.svg"},
          .run = run_bench};
}

}  // namespace power::cli
