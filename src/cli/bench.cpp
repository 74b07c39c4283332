#include <iostream>

#include "bench/operator_bench.h"
#include "cli/command.h"

namespace power::cli {
namespace {

int run_bench(const Arguments& arguments) {
  bench::OperatorBenchOptions options;
  for (const std::string& shape : arguments.texts("shape")) options.shapes.push_back(bench::parse_shape(shape));
  options.gated = !arguments.has("no_gates");
  options.softmax = !arguments.has("no_softmax");
  if (arguments.has("chunk_size")) options.chunk_size = arguments.integer("chunk_size", 0);
  options.repeats = static_cast<int>(arguments.integer("repeats", options.repeats, 1, 10000));
  options.json = arguments.has("json");
  bench::run_bench_operator(options, std::cout);
  return 0;
}

}  // namespace

Command bench_operator_command() {
  return {
      .name = "bench operator",
      .summary = "time power attention on this GPU, beside softmax attention",
      .options = {{.name = "shape",
                   .takes = Takes::kOne,
                   .value = "B,T,H[,R[,D[,P]]]",
                   .help = "batch, length, heads, query heads per head [1], head dim [64], degree [2]",
                   .repeatable = true},
                  {.name = "chunk_size",
                   .takes = Takes::kOne,
                   .value = "N",
                   .help = "0: quadratic form [as the operator chooses]"},
                  {.name = "no_gates", .help = "without gates"},
                  {.name = "no_softmax", .help = "without cuDNN and flash attention beside it"},
                  {.name = "repeats", .takes = Takes::kOne, .value = "N", .help = "timed runs [20]"},
                  json_option()},
      .examples = {"powertrain bench operator", "powertrain bench operator --shape 64,1024,12 --shape 1,16384,12,4"},
      .run = run_bench};
}

}  // namespace power::cli
