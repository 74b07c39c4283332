#pragma once

#include <ATen/core/Tensor.h>

#include <string>

// The error the operator is judged by (docs/operator.md, Tolerances): ||x - ref|| / ||ref|| against float64, for the
// whole tensor, and for each (batch, head) and each tile of 64 tokens alone, so that a wrong tile cannot hide in a
// norm.
namespace power::bench {

struct Error {
  double whole = 0;
  double part = 0;    // the worst (batch, head) or tile
  std::string where;  // of that part, as "b0 h3" or "b0 h3 t128"

  bool within(double tolerance) const { return whole <= tolerance && part <= 3 * tolerance; }  // false for NaN
};

// x and reference (B,T,H,...); dy is what the gradients came from: where the reference is below 1e-6 of it (closed
// gates, a single token), the error is held against ||dy||.
Error measure_error(const at::Tensor& x, const at::Tensor& reference, const at::Tensor& dy);

}  // namespace power::bench
