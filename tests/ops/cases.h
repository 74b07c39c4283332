#pragma once

#include <torch/types.h>

#include <optional>
#include <string>
#include <vector>

#include "ops/ops.h"

// Inputs, reference results and comparisons shared by the operator's tests.
namespace power::test {

using ops::OptTensor;

struct Shape {
  int64_t batch = 1, query_len = 8, key_len = 8, group = 1, heads = 2, head_dim = 4, value_dim = 4;
  std::string text() const;
};

enum class Gating { kNone, kMild, kStrong, kSegments };

struct Inputs {
  torch::Tensor q, k, v;
  OptTensor log_g, state, key_sum;

  std::vector<torch::Tensor> tensors() const;        // those that are given
  Inputs slice(int64_t first, int64_t count) const;  // tokens; needs TQ = TK
  Inputs to(torch::Device device, torch::Dtype dtype) const;
  Inputs requires_grad() const;  // detached copies
};

// Random float64 inputs; with_state adds a state made of keys that came before.
Inputs random_inputs(const Shape& shape, Gating gating, bool with_state, int64_t degree, int64_t seed);

struct Options {
  int64_t degree = 2;
  std::optional<double> scale = {};
  std::optional<int64_t> chunk_size = 0;
  std::string normalize = "sum";
  bool return_state = false;
};

std::tuple<torch::Tensor, torch::Tensor, torch::Tensor> run(const Inputs& in, const Options& options);

// y from the loops of src/ops/cpu/reference.h, float64; in must have no state.
torch::Tensor reference_forward(const Inputs& in, const Options& options);
// dq, dk, dv and (with gates) dlog_g.
std::vector<torch::Tensor> reference_backward(const Inputs& in, const Options& options, const torch::Tensor& dy);

// Error of operator.md: ||x - ref|| / ||ref||, or / ||dy|| where ref is nearly zero beside dy.
double operator_error(const torch::Tensor& x, const torch::Tensor& reference, const torch::Tensor& dy);
inline double distance(const torch::Tensor& a, const torch::Tensor& b) {
  return operator_error(a, b, torch::ones({1}));
}

}  // namespace power::test
