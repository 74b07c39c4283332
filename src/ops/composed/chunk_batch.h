#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>

#include "ops/composed/gates.h"
#include "ops/composed/operands.h"

namespace power::ops {

// G = B*H*N blocks of consecutive tokens that see only themselves (and a state): what the composed forms work on.
// The queries of a block stand at its last `queries` keys. Rows of q are (token, head in group).
struct ChunkBatch {
  Precision precision;
  int64_t degree = 2;
  int64_t group = 1;    // R
  int64_t queries = 0;  // tokens with a query in each block; 0: keys only
  at::Tensor q;         // (G, queries*R, D) operand dtype
  at::Tensor k;         // (G, keys, D) operand dtype
  at::Tensor v;         // (G, keys, E) operand dtype
  Gates gates;          // (G, keys)

  int64_t blocks() const { return k.size(0); }
  int64_t keys() const { return k.size(1); }
  int64_t head_dim() const { return k.size(2); }
  int64_t value_dim() const { return v.size(2); }
  int64_t offset() const { return keys() - queries; }  // key position of the first query
  ChunkBatch slice(int64_t first, int64_t count) const;

  // A factor per query token (G, tokens) as one per row (G, tokens*R, 1).
  at::Tensor per_row(const at::Tensor& per_token) const;
  // Sums a value per row (G, tokens*R) over the heads of the group -> (G, tokens).
  at::Tensor per_token(const at::Tensor& per_row) const;
};

// Gradients of a ChunkBatch, accumulated in real; log_g in float64 (undefined without gates).
struct ChunkGradients {
  at::Tensor q, k, v, log_g;
  ChunkGradients slice(int64_t first, int64_t count) const;
};

// Runs body(first, count) over slices of the G blocks so that `elements_per_block` stays within the device's budget for
// temporaries: a gigabyte of scores on a GPU; on a CPU one megabyte, which stays in the second-level cache and below
// the size that malloc returns to the system (8 x 256 tokens, 4 heads of 32: 21 ms forward and backward, 43 ms with 16
// MB). The split depends on sizes alone, so results are repeatable.
template <class Body>
void for_each_slice(int64_t blocks, int64_t elements_per_block, bool cuda, const Body& body) {
  const int64_t budget = cuda ? int64_t{1} << 28 : int64_t{1} << 18;
  const int64_t step = std::max<int64_t>(1, budget / std::max<int64_t>(1, elements_per_block));
  for (int64_t first = 0; first < blocks; first += step) body(first, std::min(step, blocks - first));
}

}  // namespace power::ops
