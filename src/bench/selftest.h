#pragma once

#include <cstdint>
#include <iosfwd>
#include <string>
#include <vector>

// Checks the operator of this machine against float64: `powertrain selftest`.
namespace power::bench {

struct SelftestOptions {
  std::string device = "auto";  // cuda where there is one, else cpu
  bool quick = false;           // a dozen cases
  bool json = false;            // one object on stdout instead of lines
};

struct SelftestTensor {
  std::string name;  // y, dq, dk, dv, dlog_g
  double error, tolerance, part;
  std::string where;
  bool passed;
};

struct SelftestCase {
  std::string name;  // B1_T129_H2_R2_D64_p2_mild_bf16_quadratic
  std::vector<SelftestTensor> tensors;
  std::string failure;  // what was thrown, or "two runs differ"
  bool passed() const;
};

// Runs the grid, writes a line a case (PASS or FAIL, error over tolerance) as it goes, and returns all of them.
std::vector<SelftestCase> run_selftest(const SelftestOptions& options, std::ostream& out);

}  // namespace power::bench
