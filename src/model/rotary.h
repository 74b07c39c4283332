#pragma once

#include <torch/types.h>

#include <cstdint>

namespace power::model {

// Rotary position table: for position t and pair i the cosine and sine of t * 2 pi / base^(2i/D).
// Computed in float64 and rounded once; it grows as positions are asked for, so generation runs past block_size.
class RotaryTable {
 public:
  RotaryTable(int64_t head_size, double base) : head_size_(head_size), base_(base) {}

  // Positions begin..begin+count-1 as (count, D/2, 2), cosine first, float32 or float64.
  torch::Tensor rows(int64_t begin, int64_t count, torch::Device device, torch::Dtype dtype);

 private:
  int64_t head_size_;
  double base_;
  torch::Tensor table_;
};

// x (B,T,H,D): pairs (x0, x1) = (x[2i], x[2i+1]) -> (x0 cos - x1 sin, x0 sin + x1 cos), computed in the table's dtype
// and returned in it. `inverse` turns the other way, which is the gradient.
torch::Tensor rotate(const torch::Tensor& x, const torch::Tensor& table, bool inverse);

}  // namespace power::model
