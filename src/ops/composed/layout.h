#pragma once

#include <vector>

#include "ops/composed/chunk_batch.h"
#include "ops/problem.h"

// From tensors (B,T,heads,...) to the blocks of ChunkBatch and back.
namespace power::ops {

// `chunks` blocks of `keys` consecutive tokens, beginning at key position `first`; the last `queries` of each have
// queries (all, none, or - in the one block of the quadratic form - the last TQ).
struct Segment {
  int64_t first, chunks, keys, queries;
  int64_t tokens() const { return chunks * keys; }
};

// Covers all keys: one block for the quadratic form; else whole chunks and a ragged tail, first of the keys before the
// first query (if any), then of the rest.
std::vector<Segment> segments(const Problem& problem);

// x (B,T,H*R,C), tokens [first, first+chunks*tokens) -> (B*H*chunks, tokens*R, C) contiguous, in dtype.
at::Tensor to_blocks(const at::Tensor& x, int64_t heads, int64_t first, int64_t chunks, int64_t tokens,
                     at::ScalarType dtype);
// The reverse, into a slice of x.
void from_blocks(const at::Tensor& blocks, at::Tensor& x, int64_t heads, int64_t first, int64_t chunks, int64_t tokens);

}  // namespace power::ops
