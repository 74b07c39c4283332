#pragma once

#include <torch/types.h>

#include <cstdint>

namespace power::model {

// log_g = logsigmoid(kGateOffset + x): a gate of exactly 0.001 decay per token where x = 0.
inline constexpr double kGateOffset = 6.906768;

// Rows of c_attn's output: q (R*H*D), k (H*D), v (H*D), gate (H, with gating only).
struct HeadLayout {
  int64_t heads = 0;  // H
  int64_t ratio = 1;  // R, query heads per key/value head
  int64_t head_size = 0;
  bool gating = false;

  int64_t q_rows() const { return ratio * heads * head_size; }
  int64_t k_rows() const { return heads * head_size; }
  int64_t rows() const { return q_rows() + 2 * k_rows() + (gating ? heads : 0); }
};

struct AttentionInputs {
  torch::Tensor q;      // (B,T,R*H,D), rotated
  torch::Tensor k;      // (B,T,H,D), rotated
  torch::Tensor v;      // (B,T,H,D)
  torch::Tensor log_g;  // (B,T,H) in the rotary table's dtype; undefined without gating
};

// Splits qkvg (B,T,rows) into heads, turns q and k by `rotary` (T,D/2,2) and makes the log gates. One autograd node:
// its backward writes the gradient of qkvg once. q, k and v are strided views.
AttentionInputs split_heads(const torch::Tensor& qkvg, const torch::Tensor& rotary, const HeadLayout& layout);

}  // namespace power::model
