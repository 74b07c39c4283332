#include "ops/composed/power_attention.h"

#include <ATen/ATen.h>

#include <cmath>

#include "ops/composed/intra.h"
#include "ops/composed/layout.h"
#include "ops/composed/normalize.h"
#include "ops/composed/state.h"
#include "ops/symmetric_power.h"

namespace power::ops::composed {
namespace {

// What forward and backward derive alike from the arguments.
struct Setup {
  const Problem& problem;
  Precision precision;
  at::Tensor q, k, v;    // q with its rows scaled
  at::Tensor row_scale;  // (B,TQ,HQ,1) float32; undefined for degrees 1 and 2
  at::Tensor log_g;      // (B,TK,H,1) float64 or undefined
  std::vector<Segment> parts;

  Setup(const Problem& p, const at::Tensor& q_in, const at::Tensor& k_in, const at::Tensor& v_in,
        const OptTensor& log_g_in)
      : problem(p), precision(Precision::of(q_in)), q(q_in), k(k_in), v(v_in), parts(segments(p)) {
    if (p.degree > 2) {
      row_scale = row_scaling(q, k);
      q = q.to(precision.real) * row_scale;
    }
    if (log_g_in.has_value()) log_g = log_g_in->to(at::kDouble).unsqueeze(-1);
  }

  int64_t first_query(const Segment& s) const {
    return s.first + s.keys - s.queries - (problem.key_len - problem.query_len);
  }

  at::Tensor query_blocks(const at::Tensor& x, const Segment& s, at::ScalarType dtype) const {
    return to_blocks(x, problem.heads, first_query(s), s.chunks, s.queries, dtype);
  }

  ChunkBatch batch(const Segment& s) const {
    ChunkBatch b;
    b.precision = precision;
    b.degree = problem.degree;
    b.group = problem.group();
    b.queries = s.queries;
    if (s.queries > 0) b.q = query_blocks(q, s, precision.operand);
    b.k = to_blocks(k, problem.heads, s.first, s.chunks, s.keys, precision.operand);
    b.v = to_blocks(v, problem.heads, s.first, s.chunks, s.keys, precision.operand);
    if (log_g.defined()) {
      b.gates = Gates(to_blocks(log_g, problem.heads, s.first, s.chunks, s.keys, at::kDouble).squeeze(-1));
    }
    return b;
  }

  // True weight / computed weight, as normalize_rows wants it.
  at::Tensor factor(const Segment& s) const {
    const at::TensorOptions options = k.options().dtype(precision.real);
    if (problem.normalize == Normalize::kSum) return {};
    const bool flips = problem.scale < 0 && problem.degree % 2 == 1;
    if (problem.normalize == Normalize::kLayer) return at::full({1}, flips ? -1.0 : 1.0, options);
    if (!row_scale.defined()) return at::full({1}, std::pow(problem.scale, problem.degree), options);
    const at::Tensor undone = problem.scale / query_blocks(row_scale, s, at::kDouble);
    return undone.pow(problem.degree).to(precision.real);
  }

  at::Tensor decay(const ChunkBatch& b, const Segment& s) const {  // of whole chunks, (B*H, chunks)
    const at::Tensor whole = b.gates.whole(precision.real);
    return whole.defined() ? whole.view({-1, s.chunks}) : whole;
  }

  // (B,H,F,E), (B,H,F) -> (B*H,F,E+1), or undefined
  at::Tensor join_state(const OptTensor& state, const OptTensor& key_sum) const {
    if (!state.has_value() && !key_sum.has_value()) return {};
    const int64_t features = state_dim(problem.head_dim, problem.degree), columns = problem.value_dim;
    at::Tensor out =
        at::zeros({problem.batch * problem.heads, features, columns + 1}, k.options().dtype(precision.real));
    if (state.has_value()) out.narrow(-1, 0, columns).copy_(state->reshape({-1, features, columns}));
    if (key_sum.has_value()) out.select(-1, columns).copy_(key_sum->reshape({-1, features}));
    return out;
  }

  std::pair<at::Tensor, at::Tensor> split_state(const at::Tensor& joined) const {
    const int64_t columns = problem.value_dim;
    const at::Tensor all = joined.unflatten(0, {problem.batch, problem.heads});
    return {all.narrow(-1, 0, columns).contiguous(), all.select(-1, columns).contiguous()};
  }

  // Whether the keys of part i must be summed into a state: something after them reads it.
  bool sums_needed(size_t i) const { return problem.return_state || i + 1 < parts.size() || parts[i].chunks > 1; }
};

// (M,F,C) once per chunk, where one part is preceded by `before` and has a single chunk; else the scanned sums.
at::Tensor states_before(const at::Tensor& scanned) { return scanned.flatten(0, 1); }

}  // namespace

Forward power_attention_forward(const Problem& problem, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                const OptTensor& log_g, const OptTensor& initial_state,
                                const OptTensor& initial_key_sum) {
  const Setup setup(problem, q, k, v, log_g);
  const at::TensorOptions real = k.options().dtype(setup.precision.real);
  Forward out;
  out.y = at::empty({problem.batch, problem.query_len, problem.query_heads, problem.value_dim}, q.options());
  out.r = at::empty({problem.batch, problem.query_len, problem.query_heads, 1}, real);
  at::Tensor state = setup.join_state(initial_state, initial_key_sum);
  for (size_t i = 0; i < setup.parts.size(); ++i) {
    const Segment& part = setup.parts[i];
    const ChunkBatch batch = setup.batch(part);
    at::Tensor before = state.defined() ? state.unsqueeze(1) : state;  // (B*H, chunks, F, E+1)
    if (setup.sums_needed(i)) {
      at::Tensor sums = chunk_states(batch).unflatten(0, {-1, part.chunks});
      state = discounted_sum_(sums, setup.decay(batch, part), state);
      before = before.defined() || part.chunks > 1 ? sums : before;
    }
    if (part.queries == 0) continue;
    at::Tensor sums = at::zeros({batch.blocks(), part.queries * batch.group, problem.value_dim + 1}, real);
    if (before.defined()) query_state_forward(batch, states_before(before), sums);
    intra_forward(batch, sums);
    const Normalized rows = normalize_rows(sums, problem.normalize, setup.factor(part));
    from_blocks(rows.y, out.y, problem.heads, setup.first_query(part), part.chunks, part.queries);
    from_blocks(rows.r, out.r, problem.heads, setup.first_query(part), part.chunks, part.queries);
  }
  out.r = out.r.squeeze(-1);
  if (problem.return_state) {
    std::tie(out.state, out.key_sum) = setup.split_state(state);
  } else {
    out.state = at::empty({0}, real);
    out.key_sum = at::empty({0}, real);
  }
  return out;
}

Backward power_attention_backward(const Problem& problem, const at::Tensor& dy, const OptTensor& dstate,
                                  const OptTensor& dkey_sum, const at::Tensor& q, const at::Tensor& k,
                                  const at::Tensor& v, const OptTensor& log_g, const OptTensor& initial_state,
                                  const OptTensor& initial_key_sum, const at::Tensor& y, const at::Tensor& r) {
  const Setup setup(problem, q, k, v, log_g);
  const at::ScalarType real = setup.precision.real;
  const at::TensorOptions real_options = k.options().dtype(real);
  const at::Tensor initial = setup.join_state(initial_state, initial_key_sum);
  const at::Tensor r_column = r.unsqueeze(-1);

  // The states before each chunk again: recomputing costs a fifth of the backward and saves their memory.
  std::vector<at::Tensor> before(setup.parts.size());
  at::Tensor state = initial;
  for (size_t i = 0; i < setup.parts.size(); ++i) {
    const Segment& part = setup.parts[i];
    if (!setup.sums_needed(i) || (i + 1 == setup.parts.size() && part.chunks == 1)) {
      if (state.defined()) before[i] = state.unsqueeze(1);
      continue;
    }
    const ChunkBatch batch = setup.batch(part);
    at::Tensor sums = chunk_states(batch).unflatten(0, {-1, part.chunks});
    const bool from_zero = !state.defined() && part.chunks == 1;
    state = discounted_sum_(sums, setup.decay(batch, part), state);
    if (!from_zero) before[i] = sums;
  }

  Backward out;
  out.dq = at::empty(q.sizes(), q.options());
  out.dk = at::empty(k.sizes(), k.options());
  out.dv = at::empty(v.sizes(), v.options());
  at::Tensor dlog_g;
  if (log_g.has_value()) dlog_g = at::empty({problem.batch, problem.key_len, problem.heads, 1}, log_g->options());
  at::Tensor dafter = setup.join_state(dstate, dkey_sum);  // gradient of the state after the current part
  for (size_t i = setup.parts.size(); i-- > 0;) {
    const Segment& part = setup.parts[i];
    const ChunkBatch batch = setup.batch(part);
    const int64_t blocks = batch.blocks(), rows = part.queries * batch.group;
    ChunkGradients g;
    g.k = at::zeros({blocks, part.keys, problem.head_dim}, real_options);
    g.v = at::zeros({blocks, part.keys, problem.value_dim}, real_options);
    if (part.queries > 0) g.q = at::zeros({blocks, rows, problem.head_dim}, real_options);
    if (log_g.has_value()) g.log_g = at::zeros({blocks, part.keys}, real_options.dtype(at::kDouble));

    at::Tensor dbefore;  // (B*H, chunks, F, E+1)
    if (part.queries > 0) {
      const RowGradients d = normalize_rows_backward(
          setup.query_blocks(dy, part, real), setup.query_blocks(y, part, real),
          setup.query_blocks(r_column, part, real).squeeze(-1), problem.normalize, setup.factor(part));
      intra_backward(batch, d.dn, d.dl, g);
      if (before[i].defined()) {
        dbefore = query_state_backward(batch, states_before(before[i]), d.dn, d.dl, g).unflatten(0, {-1, part.chunks});
      }
    }
    if (dbefore.defined() || dafter.defined()) {
      const bool reads_sums = dafter.defined() || part.chunks > 1;
      if (!dbefore.defined()) {
        std::vector<int64_t> shape = dafter.sizes().vec();
        shape.insert(shape.begin() + 1, part.chunks);
        dbefore = at::zeros(shape, dafter.options());
      }
      // dbefore becomes the gradient of the state after each chunk.
      at::Tensor dfirst = discounted_sum_backward_(dbefore, setup.decay(batch, part), dafter);
      if (reads_sums) {
        const at::Tensor dsums = dbefore.flatten(0, 1);
        chunk_states_backward(batch, dsums, g);
        if (g.log_g.defined() && before[i].defined()) {
          // Every gate of a chunk discounts the state that passes through it.
          const at::Tensor passed = (states_before(before[i]) * dsums).sum({1, 2}).to(at::kDouble);
          g.log_g.add_((passed * batch.gates.whole(at::kDouble)).unsqueeze(-1));
        }
      }
      dafter = dfirst;
    }
    if (part.queries > 0) {
      at::Tensor dq = g.q;
      if (setup.row_scale.defined()) dq = dq * setup.query_blocks(setup.row_scale, part, real);
      from_blocks(dq, out.dq, problem.heads, setup.first_query(part), part.chunks, part.queries);
    }
    from_blocks(g.k, out.dk, problem.heads, part.first, part.chunks, part.keys);
    from_blocks(g.v, out.dv, problem.heads, part.first, part.chunks, part.keys);
    if (g.log_g.defined()) {
      g.log_g.masked_fill_(batch.gates.resets(), 0);
      from_blocks(g.log_g, dlog_g, problem.heads, part.first, part.chunks, part.keys);
    }
  }
  const at::Tensor none = at::empty({0}, real_options);
  out.dlog_g = dlog_g.defined() ? dlog_g.squeeze(-1) : none;
  if (initial.defined()) {
    std::tie(out.dinitial_state, out.dinitial_key_sum) =
        dafter.defined() ? setup.split_state(dafter) : setup.split_state(at::zeros_like(initial));
  } else {
    out.dinitial_state = out.dinitial_key_sum = none;
  }
  return out;
}

}  // namespace power::ops::composed
