#pragma once

#include <utility>
#include <vector>

#include "ops/composed/chunk_batch.h"
#include "ops/composed/layout.h"
#include "ops/problem.h"

namespace power::ops::composed {

// One call's arguments as the composed forms read them: what forward and backward derive alike.
class Call {
 public:
  Call(const Problem& problem, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const OptTensor& log_g);

  const std::vector<Segment>& parts() const { return parts_; }
  const Precision& precision() const { return precision_; }
  ChunkBatch batch(const Segment& part) const;

  // Index of the part's first query in q.
  int64_t first_query(const Segment& part) const {
    return part.first + part.keys - part.queries - (problem_.key_len - problem_.query_len);
  }
  at::Tensor query_blocks(const at::Tensor& x, const Segment& part, at::ScalarType dtype) const;

  // Factor that the rows of q carry, (B,TQ,HQ,1); undefined for degrees 1 and 2, which need none.
  const at::Tensor& row_scale() const { return row_scale_; }
  // True weight / computed weight: one number, or one per row of the part.
  at::Tensor weight_factor(const Segment& part) const;
  // What normalize_rows wants of it.
  at::Tensor normalizer_factor(const Segment& part) const;

  // Decay over each whole chunk (B*H, chunks); undefined without gates.
  at::Tensor chunk_decay(const ChunkBatch& batch, const Segment& part) const;
  // Whether the keys of part i must be summed into a state: something after them reads it.
  bool sums_needed(size_t i) const;

  // (B,H,F,E), (B,H,F) <-> (B*H,F,E+1); undefined where neither is given.
  at::Tensor join_state(const OptTensor& state, const OptTensor& key_sum) const;
  std::pair<at::Tensor, at::Tensor> split_state(const at::Tensor& joined) const;

 private:
  const Problem& problem_;
  Precision precision_;
  at::Tensor q_, k_, v_;  // q with its rows scaled
  at::Tensor row_scale_;
  at::Tensor log_g_;  // (B,TK,H,1) float64 or undefined
  std::vector<Segment> parts_;
};

}  // namespace power::ops::composed
