#include <ATen/ATen.h>

#include <cmath>

#include "ops/check_argument.h"
#include "ops/composed/layout.h"
#include "ops/composed/low_level.h"
#include "ops/composed/state.h"
#include "ops/symmetric_power.h"

namespace power::ops::composed {
namespace {

// The chunks of (B,T,...) tokens: whole ones and the ragged last one, with the index of the first chunk of each.
struct Chunks {
  std::vector<Segment> parts;
  std::vector<int64_t> index;
  int64_t count = 0;

  Chunks(int64_t tokens, OptInt chunk_size, bool with_queries) {
    const int64_t size = check_chunk_size(tokens, chunk_size);
    const int64_t whole = tokens / size, tail = tokens % size;
    if (whole > 0) add({0, whole, size, with_queries ? size : 0});
    if (tail > 0) add({tokens - tail, 1, tail, with_queries ? tail : 0});
  }

 private:
  void add(const Segment& part) {
    parts.push_back(part);
    index.push_back(count);
    count += part.chunks;
  }
};

// The state's chunks of a part, (B,N,H,F,E) and (B,N,H,F) <-> (B*H*chunks, F, E+1)
at::Tensor gather_state(const at::Tensor& state, const at::Tensor& key_sum, int64_t first, int64_t chunks) {
  const auto blocks = [&](const at::Tensor& x) { return x.narrow(1, first, chunks).transpose(1, 2).flatten(0, 2); };
  return at::cat({blocks(state), blocks(key_sum).unsqueeze(-1)}, -1);
}

void scatter_state(const at::Tensor& joined, at::Tensor& state, at::Tensor& key_sum, int64_t first, int64_t chunks) {
  const int64_t batch = state.size(0), heads = state.size(2), columns = state.size(4);
  const at::Tensor all = joined.view({batch, heads, chunks, joined.size(1), columns + 1}).transpose(1, 2);
  state.narrow(1, first, chunks).copy_(all.narrow(-1, 0, columns));
  key_sum.narrow(1, first, chunks).copy_(all.select(-1, columns));
}

at::Tensor given_or_zeros(const OptTensor& t, at::IntArrayRef shape, const at::TensorOptions& options) {
  return t.has_value() ? *t : at::zeros(shape, options);
}

ChunkBatch key_batch(const Problem& p, const Segment& part, const at::Tensor& k, const at::Tensor& v,
                     const OptTensor& log_g) {
  ChunkBatch b;
  b.precision = Precision::of(k);
  b.degree = p.degree;
  b.k = to_blocks(k, p.heads, part.first, part.chunks, part.keys, b.precision.operand);
  b.v = to_blocks(v, p.heads, part.first, part.chunks, part.keys, b.precision.operand);
  if (log_g.has_value()) {
    b.gates =
        Gates(to_blocks(log_g->unsqueeze(-1), p.heads, part.first, part.chunks, part.keys, at::kDouble).squeeze(-1));
  }
  return b;
}

// q's blocks. Keys and values are there for their sizes only and hold one number.
ChunkBatch query_batch(const at::Tensor& q, int64_t heads, int64_t value_dim, const Segment& part,
                       const OptTensor& log_g, int64_t degree) {
  ChunkBatch b;
  b.precision = Precision::of(q);
  b.degree = degree;
  b.group = q.size(2) / heads;
  b.queries = part.queries;
  b.q = to_blocks(q, heads, part.first, part.chunks, part.queries, b.precision.operand);
  const at::Tensor one = at::zeros({1, 1, 1}, b.q.options());
  b.k = one.expand({b.q.size(0), part.keys, q.size(3)});
  b.v = one.expand({b.q.size(0), part.keys, value_dim});
  if (log_g.has_value()) {
    b.gates =
        Gates(to_blocks(log_g->unsqueeze(-1), heads, part.first, part.chunks, part.keys, at::kDouble).squeeze(-1));
  }
  return b;
}

}  // namespace

int64_t check_chunk_size(int64_t tokens, OptInt chunk_size) {
  const int64_t size = std::min(chunk_size.value_or(tokens), tokens);
  check_argument(size > 0, "power_attention: chunk_size is ", chunk_size.value_or(0), " for ", tokens,
                 " tokens; both must be positive");
  return size;
}

Problem check_keys(const at::Tensor& k, const at::Tensor& v, const OptTensor& log_g, int64_t degree) {
  return check_problem(k, k, v, log_g, {}, {}, degree, {}, 0, "sum", true);
}

Problem check_query_state(const at::Tensor& q, const at::Tensor& state, const at::Tensor& key_sum,
                          const OptTensor& log_g, int64_t degree, OptDouble scale, OptInt chunk_size) {
  const int64_t size = check_chunk_size(q.size(1), chunk_size), chunks = (q.size(1) + size - 1) / size;
  check_argument(state.dim() == 5 && key_sum.dim() == 4,
                 "query_state: state must be (B,N,H,F,E) and key_sum (B,N,H,F), found ", state.sizes(), " and ",
                 key_sum.sizes());
  check_argument(state.size(1) == chunks, "query_state: ", q.size(1), " tokens make ", chunks,
                 " chunks, and state has ", state.size(1));
  // Shapes, dtypes, degree and scale as for a call of the operator on these tokens with the first chunk's state.
  const at::Tensor k = q.narrow(2, 0, state.size(2)), v = k.narrow(3, 0, 1).expand({-1, -1, -1, state.size(4)});
  return check_problem(q, k, v, log_g, state.select(1, 0), key_sum.select(1, 0), degree, scale, 0, "sum", false);
}

void check_discumsum(const at::Tensor& x, const OptTensor& log_decay, const OptTensor& initial) {
  check_argument(x.dim() >= 3, "discumsum: x must be (B,N,H,...), found ", x.sizes());
  check_argument(x.scalar_type() == at::kFloat || x.scalar_type() == at::kDouble, "discumsum: x has dtype ",
                 x.scalar_type(), "; supported: float32, float64 (running sums do not survive half precision)");
  check_argument(!log_decay.has_value() || log_decay->sizes() == x.sizes().slice(0, 3),
                 "discumsum: log_decay must be (B,N,H) of x ", x.sizes());
  if (!initial.has_value()) return;
  std::vector<int64_t> shape = x.sizes().vec();
  shape.erase(shape.begin() + 1);
  check_argument(initial->sizes() == at::IntArrayRef(shape), "discumsum: initial must be ", at::IntArrayRef(shape),
                 ", found ", initial->sizes());
}

Tensor2 update_state(const at::Tensor& k, const at::Tensor& v, const OptTensor& log_g, int64_t degree,
                     OptInt chunk_size) {
  const Problem p = check_keys(k, v, log_g, degree);
  const Chunks chunks(p.key_len, chunk_size, false);
  const int64_t features = state_dim(p.head_dim, degree);
  const at::TensorOptions real = k.options().dtype(Precision::of(k).real);
  at::Tensor state = at::empty({p.batch, chunks.count, p.heads, features, p.value_dim}, real);
  at::Tensor key_sum = at::empty({p.batch, chunks.count, p.heads, features}, real);
  for (size_t i = 0; i < chunks.parts.size(); ++i) {
    const Segment& part = chunks.parts[i];
    scatter_state(chunk_states(key_batch(p, part, k, v, log_g)), state, key_sum, chunks.index[i], part.chunks);
  }
  return {state, key_sum};
}

Tensor3 update_state_backward(const OptTensor& dstate, const OptTensor& dkey_sum, const at::Tensor& k,
                              const at::Tensor& v, const OptTensor& log_g, int64_t degree, OptInt chunk_size) {
  const Problem p = check_keys(k, v, log_g, degree);
  const Chunks chunks(p.key_len, chunk_size, false);
  const int64_t features = state_dim(p.head_dim, degree);
  const at::TensorOptions real = k.options().dtype(Precision::of(k).real);
  const at::Tensor ds = given_or_zeros(dstate, {p.batch, chunks.count, p.heads, features, p.value_dim}, real);
  const at::Tensor dz = given_or_zeros(dkey_sum, {p.batch, chunks.count, p.heads, features}, real);
  at::Tensor dk = at::empty(k.sizes(), k.options()), dv = at::empty(v.sizes(), v.options());
  at::Tensor dlog_g = at::empty({0}, real);
  if (log_g.has_value()) dlog_g = at::empty({p.batch, p.key_len, p.heads, 1}, log_g->options());
  for (size_t i = 0; i < chunks.parts.size(); ++i) {
    const Segment& part = chunks.parts[i];
    const ChunkBatch batch = key_batch(p, part, k, v, log_g);
    ChunkGradients g{{},
                     at::zeros({batch.blocks(), part.keys, p.head_dim}, real),
                     at::zeros({batch.blocks(), part.keys, p.value_dim}, real),
                     {}};
    if (log_g.has_value()) g.log_g = at::zeros({batch.blocks(), part.keys}, real.dtype(at::kDouble));
    chunk_states_backward(batch, gather_state(ds, dz, chunks.index[i], part.chunks), g);
    from_blocks(g.k, dk, p.heads, part.first, part.chunks, part.keys);
    from_blocks(g.v, dv, p.heads, part.first, part.chunks, part.keys);
    if (log_g.has_value()) {
      g.log_g.masked_fill_(batch.gates.resets(), 0);
      from_blocks(g.log_g, dlog_g, p.heads, part.first, part.chunks, part.keys);
    }
  }
  return {dk, dv, log_g.has_value() ? dlog_g.squeeze(-1) : dlog_g};
}

namespace {

// (B,N,H,...) <-> (B*H,N,...) contiguous
at::Tensor heads_first(const at::Tensor& x) {
  return x.transpose(1, 2).flatten(0, 1).clone(at::MemoryFormat::Contiguous);
}
at::Tensor heads_last(const at::Tensor& x, int64_t batch) {
  return x.unflatten(0, {batch, -1}).transpose(1, 2).contiguous();
}

at::Tensor decay_of(const OptTensor& log_decay, at::ScalarType dtype) {
  if (!log_decay.has_value()) return {};
  return log_decay->to(at::kDouble).exp().transpose(1, 2).flatten(0, 1).to(dtype);  // -inf: nothing passes
}

}  // namespace

Tensor2 discumsum(const at::Tensor& x, const OptTensor& log_decay, const OptTensor& initial) {
  check_discumsum(x, log_decay, initial);
  const int64_t batch = x.size(0);
  at::Tensor sums = heads_first(x);
  at::Tensor first;
  if (initial.has_value()) first = initial->flatten(0, 1).to(x.scalar_type());
  const at::Tensor last = discounted_sum_(sums, decay_of(log_decay, x.scalar_type()), first);
  return {heads_last(sums, batch), last.unflatten(0, {batch, -1})};
}

Tensor3 discumsum_backward(const OptTensor& dbefore, const OptTensor& dlast, const at::Tensor& before,
                           const OptTensor& log_decay) {
  const int64_t batch = before.size(0);
  at::Tensor dx = dbefore.has_value() ? heads_first(*dbefore) : at::zeros_like(heads_first(before));
  const at::Tensor decay = decay_of(log_decay, before.scalar_type());
  const at::Tensor dinitial =
      discounted_sum_backward_(dx, decay, dlast.has_value() ? dlast->flatten(0, 1) : at::Tensor());
  at::Tensor dlog_decay = at::empty({0}, before.options());
  if (log_decay.has_value()) {
    const at::Tensor passed = (heads_first(before) * dx).flatten(2).sum(-1) * decay;
    dlog_decay = heads_last(passed, batch).to(log_decay->scalar_type());
  }
  return {heads_last(dx, batch), dlog_decay, dinitial.unflatten(0, {batch, -1}).contiguous()};
}

Tensor2 query_state(const at::Tensor& q, const at::Tensor& state, const at::Tensor& key_sum, const OptTensor& log_g,
                    int64_t degree, OptDouble scale, OptInt chunk_size) {
  const Chunks chunks(q.size(1), chunk_size, true);
  const double s = check_query_state(q, state, key_sum, log_g, degree, scale, chunk_size).scale;
  const int64_t heads = state.size(2), columns = state.size(4);
  const at::TensorOptions real = q.options().dtype(Precision::of(q).real);
  at::Tensor y = at::empty({q.size(0), q.size(1), q.size(2), columns}, real);
  at::Tensor l = at::empty({q.size(0), q.size(1), q.size(2), 1}, real);
  for (size_t i = 0; i < chunks.parts.size(); ++i) {
    const Segment& part = chunks.parts[i];
    const ChunkBatch batch = query_batch(q, heads, columns, part, log_g, degree);
    at::Tensor sums = at::zeros({batch.blocks(), part.queries * batch.group, columns + 1}, real);
    query_state_forward(batch, gather_state(state, key_sum, chunks.index[i], part.chunks), sums);
    sums.mul_(std::pow(s, degree));
    from_blocks(sums.narrow(-1, 0, columns).contiguous(), y, heads, part.first, part.chunks, part.queries);
    from_blocks(sums.narrow(-1, columns, 1).contiguous(), l, heads, part.first, part.chunks, part.queries);
  }
  return {y, l.squeeze(-1)};
}

Tensor4 query_state_backward(const OptTensor& dy, const OptTensor& dl, const at::Tensor& q, const at::Tensor& state,
                             const at::Tensor& key_sum, const OptTensor& log_g, int64_t degree, OptDouble scale,
                             OptInt chunk_size) {
  const Chunks chunks(q.size(1), chunk_size, true);
  const double s = check_query_state(q, state, key_sum, log_g, degree, scale, chunk_size).scale;
  const double weight = std::pow(s, degree);
  const int64_t heads = state.size(2), columns = state.size(4);
  const at::ScalarType dtype = Precision::of(q).real;
  const at::TensorOptions real = q.options().dtype(dtype);
  const at::Tensor dn_all = given_or_zeros(dy, {q.size(0), q.size(1), q.size(2), columns}, real);
  const at::Tensor dl_all = given_or_zeros(dl, {q.size(0), q.size(1), q.size(2)}, real).unsqueeze(-1);
  at::Tensor dq = at::empty(q.sizes(), q.options()), dlog_g = at::empty({0}, real);
  at::Tensor dstate = at::empty(state.sizes(), state.options()),
             dkey_sum = at::empty(key_sum.sizes(), key_sum.options());
  if (log_g.has_value()) dlog_g = at::empty({q.size(0), q.size(1), heads, 1}, log_g->options());
  for (size_t i = 0; i < chunks.parts.size(); ++i) {
    const Segment& part = chunks.parts[i];
    const ChunkBatch batch = query_batch(q, heads, columns, part, log_g, degree);
    const auto rows = [&](const at::Tensor& x) {
      return to_blocks(x, heads, part.first, part.chunks, part.queries, dtype).mul(weight);
    };
    ChunkGradients g{at::zeros({batch.blocks(), part.queries * batch.group, q.size(3)}, real), {}, {}, {}};
    if (log_g.has_value()) g.log_g = at::zeros({batch.blocks(), part.keys}, real.dtype(at::kDouble));
    const at::Tensor dbefore = ops::query_state_backward(
        batch, gather_state(state, key_sum, chunks.index[i], part.chunks), rows(dn_all), rows(dl_all).squeeze(-1), g);
    scatter_state(dbefore, dstate, dkey_sum, chunks.index[i], part.chunks);
    from_blocks(g.q, dq, heads, part.first, part.chunks, part.queries);
    if (log_g.has_value()) {
      g.log_g.masked_fill_(batch.gates.resets(), 0);
      from_blocks(g.log_g, dlog_g, heads, part.first, part.chunks, part.keys);
    }
  }
  return {dq, dstate, dkey_sum, log_g.has_value() ? dlog_g.squeeze(-1) : dlog_g};
}

}  // namespace power::ops::composed
