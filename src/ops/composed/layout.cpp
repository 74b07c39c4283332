#include "ops/composed/layout.h"

#include <ATen/ATen.h>

namespace power::ops {
namespace {

// (B, chunks, tokens, H, R, C) seen as (B, H, chunks, tokens, R, C)
at::Tensor block_view(const at::Tensor& x, int64_t heads, int64_t first, int64_t chunks, int64_t tokens) {
  const at::Tensor slice = x.narrow(1, first, chunks * tokens);
  return slice.unflatten(2, {heads, x.size(2) / heads}).unflatten(1, {chunks, tokens}).permute({0, 3, 1, 2, 4, 5});
}

void add_chunked(std::vector<Segment>& out, int64_t first, int64_t last, int64_t chunk_size, bool with_queries) {
  const int64_t whole = (last - first) / chunk_size, tail = (last - first) % chunk_size;
  if (whole > 0) out.push_back({first, whole, chunk_size, with_queries ? chunk_size : 0});
  if (tail > 0) out.push_back({last - tail, 1, tail, with_queries ? tail : 0});
}

}  // namespace

std::vector<Segment> segments(const Problem& p) {
  if (p.chunk_size == 0) return {{0, 1, p.key_len, p.query_len}};
  std::vector<Segment> out;
  const int64_t first_query = p.key_len - p.query_len;
  add_chunked(out, 0, first_query, p.chunk_size, false);
  add_chunked(out, first_query, p.key_len, p.chunk_size, true);
  return out;
}

at::Tensor to_blocks(const at::Tensor& x, int64_t heads, int64_t first, int64_t chunks, int64_t tokens,
                     at::ScalarType dtype) {
  const int64_t rows = tokens * (x.size(2) / heads);
  return block_view(x, heads, first, chunks, tokens)
      .to(x.options().dtype(dtype), false, false, at::MemoryFormat::Contiguous)
      .reshape({x.size(0) * heads * chunks, rows, x.size(3)});
}

void from_blocks(const at::Tensor& blocks, at::Tensor& x, int64_t heads, int64_t first, int64_t chunks,
                 int64_t tokens) {
  at::Tensor target = block_view(x, heads, first, chunks, tokens);
  target.copy_(blocks.reshape(target.sizes()));
}

}  // namespace power::ops
