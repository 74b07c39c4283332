#include "ops/composed/chunk_batch.h"

#include <ATen/ATen.h>

namespace power::ops {

ChunkBatch ChunkBatch::slice(int64_t first, int64_t count) const {
  ChunkBatch part = *this;
  if (q.defined()) part.q = q.narrow(0, first, count);
  part.k = k.narrow(0, first, count);
  part.v = v.narrow(0, first, count);
  part.gates = gates.slice(first, count);
  return part;
}

at::Tensor ChunkBatch::per_row(const at::Tensor& per_token) const {
  if (group == 1) return per_token.unsqueeze(-1);
  return per_token.repeat_interleave(group, 1).unsqueeze(-1);
}

at::Tensor ChunkBatch::per_token(const at::Tensor& per_row) const {
  if (group == 1) return per_row;
  return per_row.view({per_row.size(0), -1, group}).sum(-1);
}

ChunkGradients ChunkGradients::slice(int64_t first, int64_t count) const {
  const auto narrow = [&](const at::Tensor& t) { return t.defined() ? t.narrow(0, first, count) : t; };
  return {narrow(q), narrow(k), narrow(v), narrow(log_g)};
}

}  // namespace power::ops
