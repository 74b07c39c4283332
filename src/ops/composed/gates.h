#pragma once

#include <ATen/core/Tensor.h>

// Decay factors of G independent blocks of n consecutive keys. Everything is computed from sums local to the block, in
// float64, and only differences of them are exponentiated, so every factor is <= 1 and exact to the result's precision.
// A gate of -inf starts a segment: it is counted apart and adds nothing to the sums; a factor across it is zero.
namespace power::ops {

class Gates {
 public:
  Gates() = default;                        // no gates: every factor is 1
  explicit Gates(const at::Tensor& log_g);  // (G,n) float64

  bool present() const { return log_g_.defined(); }
  Gates slice(int64_t first, int64_t count) const;  // of the G blocks

  // Results in dtype `real`; undefined where no gates are present.
  at::Tensor from_start(int64_t first, int64_t last, at::ScalarType real) const;        // (G,last-first): e^{c_t}
  at::Tensor after(int64_t t, int64_t first, int64_t last, at::ScalarType real) const;  // e^{c_i - c_t}, i > t
  at::Tensor until(int64_t t, at::ScalarType real) const;                               // (G,t+1): e^{c_t - c_j}
  at::Tensor to_end(at::ScalarType real) const;                                         // (G,n): e^{c_last - c_j}
  at::Tensor whole(at::ScalarType real) const;                                          // (G): e^{c_last}
  // e^{c_i - c_j} for first <= j <= i < last, zero above the diagonal: (G,last-first,last-first), or (1,...) without
  // gates.
  at::Tensor tile(int64_t first, int64_t last, const at::TensorOptions& options) const;

  at::Tensor resets() const { return is_reset_; }  // (G,n) bool

 private:
  at::Tensor log_g_;     // (G,n) float64, 0 at resets
  at::Tensor sum_;       // inclusive cumulative sum
  at::Tensor is_reset_;  // bool
  at::Tensor segment_;   // inclusive count of resets, float64
};

// Inclusive cumulative sum along the last dimension of (G,n), forwards or backwards; deterministic on every device.
at::Tensor cumulative_sum(const at::Tensor& x, bool reverse);
// Sum of the entries before each one.
at::Tensor exclusive_cumulative_sum(const at::Tensor& x);

}  // namespace power::ops
