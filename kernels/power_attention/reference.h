#pragma once

#include <cstdint>
#include <vector>

#include "kernels/power_attention/power_attention.h"

// The operator in double precision, written as loops from its definition: what the kernels are compared with.
namespace power::kernels {

// phi: index tuples, non-decreasing, in lexicographic order, and how many orders of its indices each stands for.
struct Features {
  std::vector<std::vector<int>> tuples;
  std::vector<double> multiplicity;

  Features(int head_dim, int degree);
  double value(size_t f, const double* x) const;
  // dx += weight * d value / dx
  void add_gradient(size_t f, const double* x, double weight, double* dx) const;
};

// Contiguous q, y, dy, dq (B,TQ,HQ,D); k, v, dk, dv (B,TK,H,D); log_g, dlog_g (B,TK,H), empty without gates.
struct ReferenceInputs {
  AttentionShape shape;
  std::vector<double> q, k, v, log_g, dy;
  std::vector<double> initial_state, initial_key_sum;  // (B,H,F,D), (B,H,F), or empty
  std::vector<double> dfinal_state, dfinal_key_sum;    // where want_final and the backward pass are asked for
  bool want_final = false;
  std::vector<double> dl;  // gradient of l, (B,H,TQ,R), or empty
};

struct ReferenceOutputs {
  std::vector<double> y, l;  // l (B,H,TQ,R)
  std::vector<double> dq, dk, dv, dlog_g;
  std::vector<double> final_state, final_key_sum, dinitial_state, dinitial_key_sum;
};

// threads: host threads, each takes whole (batch, kv head) pairs.
ReferenceOutputs reference_attention(const ReferenceInputs& in, bool backward, int threads = 1);

}  // namespace power::kernels
