#include "bench/selftest.h"

#include <algorithm>
#include <iostream>

#include "cli/command.h"

namespace power::cli {
namespace {

int run_selftest(const Arguments& arguments) {
  bench::SelftestOptions options;
  options.device = arguments.text("device", options.device);
  options.quick = arguments.has("quick");
  options.json = arguments.has("json");
  const auto cases = bench::run_selftest(options, std::cout);
  const auto failed = std::count_if(cases.begin(), cases.end(), [](const auto& c) { return !c.passed(); });
  if (!options.json) std::cout << cases.size() - failed << " of " << cases.size() << " cases passed" << std::endl;
  return failed == 0 ? 0 : 1;
}

}  // namespace

Command selftest_command() {
  return {.name = "selftest",
          .summary = "check power attention on this machine against float64",
          .options = {{.name = "device",
                       .takes = Takes::kOne,
                       .value = "DEVICE",
                       .help = "where to run [auto: the GPU if there is one]",
                       .choices = {"auto", "cuda", "cpu"}},
                      {.name = "quick", .help = "a few cases only"},
                      json_option()},
          .examples = {"powertrain selftest", "powertrain selftest --quick --device cpu"},
          .run = run_selftest};
}

}  // namespace power::cli
