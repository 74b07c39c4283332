#include "ops/composed/power_attention.h"

#include <ATen/ATen.h>

#include "ops/composed/call.h"
#include "ops/composed/intra.h"
#include "ops/composed/normalize.h"
#include "ops/composed/state.h"

namespace power::ops::composed {
namespace {

// (B*H, chunks, F, E+1) -> one state per block
at::Tensor states_before(const at::Tensor& scanned) { return scanned.flatten(0, 1); }

}  // namespace

Forward power_attention_forward(const Problem& problem, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                const OptTensor& log_g, const OptTensor& initial_state,
                                const OptTensor& initial_key_sum) {
  const Call call(problem, q, k, v, log_g);
  const at::TensorOptions real = k.options().dtype(call.precision().real);
  Forward out;
  out.y = at::empty({problem.batch, problem.query_len, problem.query_heads, problem.value_dim}, q.options());
  out.r = at::empty({problem.batch, problem.query_len, problem.query_heads, problem.row_values()}, real);
  at::Tensor r = out.r.narrow(-1, 0, 1);
  if (call.row_scale().defined()) out.r.narrow(-1, 1, 1).copy_(call.row_scale());
  at::Tensor state = call.join_state(initial_state, initial_key_sum);
  for (size_t i = 0; i < call.parts().size(); ++i) {
    const Segment& part = call.parts()[i];
    const ChunkBatch batch = call.batch(part);
    at::Tensor before = state.defined() ? state.unsqueeze(1) : state;  // (B*H, chunks, F, E+1)
    if (call.sums_needed(i)) {
      at::Tensor sums = chunk_states(batch).unflatten(0, {-1, part.chunks});
      state = discounted_sum_(sums, call.chunk_decay(batch, part), state);
      before = before.defined() || part.chunks > 1 ? sums : before;
    }
    if (part.queries == 0) continue;
    at::Tensor sums = at::zeros({batch.blocks(), part.queries * batch.group, problem.value_dim + 1}, real);
    if (before.defined()) query_state_forward(batch, states_before(before), sums);
    intra_forward(batch, sums);
    const Normalized rows = normalize_rows(sums, problem.normalize, call.normalizer_factor(part));
    from_blocks(rows.y, out.y, problem.heads, call.first_query(part), part.chunks, part.queries);
    from_blocks(rows.r, r, problem.heads, call.first_query(part), part.chunks, part.queries);
  }
  if (problem.return_state) {
    std::tie(out.state, out.key_sum) = call.split_state(state);
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
  const Call call(problem, q, k, v, log_g);
  const at::ScalarType real = call.precision().real;
  const at::TensorOptions real_options = k.options().dtype(real);
  const at::Tensor initial = call.join_state(initial_state, initial_key_sum);
  const at::Tensor r_column = r.narrow(-1, 0, 1);

  // The states before each chunk again: recomputing costs a fifth of the backward and saves their memory.
  std::vector<at::Tensor> before(call.parts().size());
  at::Tensor state = initial;
  for (size_t i = 0; i < call.parts().size(); ++i) {
    const Segment& part = call.parts()[i];
    if (!call.sums_needed(i) || (i + 1 == call.parts().size() && part.chunks == 1)) {
      if (state.defined()) before[i] = state.unsqueeze(1);
      continue;
    }
    const ChunkBatch batch = call.batch(part);
    at::Tensor sums = chunk_states(batch).unflatten(0, {-1, part.chunks});
    const bool from_zero = !state.defined() && part.chunks == 1;
    state = discounted_sum_(sums, call.chunk_decay(batch, part), state);
    if (!from_zero) before[i] = sums;
  }

  Backward out;
  out.dq = at::empty(q.sizes(), q.options());
  out.dk = at::empty(k.sizes(), k.options());
  out.dv = at::empty(v.sizes(), v.options());
  at::Tensor dlog_g;
  if (log_g.has_value()) dlog_g = at::empty({problem.batch, problem.key_len, problem.heads, 1}, log_g->options());
  at::Tensor dafter = call.join_state(dstate, dkey_sum);  // gradient of the state after the current part
  for (size_t i = call.parts().size(); i-- > 0;) {
    const Segment& part = call.parts()[i];
    const ChunkBatch batch = call.batch(part);
    const int64_t blocks = batch.blocks(), rows = part.queries * batch.group;
    ChunkGradients g;
    g.k = at::zeros({blocks, part.keys, problem.head_dim}, real_options);
    g.v = at::zeros({blocks, part.keys, problem.value_dim}, real_options);
    if (part.queries > 0) g.q = at::zeros({blocks, rows, problem.head_dim}, real_options);
    if (log_g.has_value()) g.log_g = at::zeros({blocks, part.keys}, real_options.dtype(at::kDouble));

    at::Tensor dbefore;  // (B*H, chunks, F, E+1)
    if (part.queries > 0) {
      const at::Tensor rows_r = call.query_blocks(r_column, part, real);
      const RowGradients d = normalize_rows_backward(call.query_blocks(dy, part, real),
                                                     call.query_blocks(y, part, real), rows_r.squeeze(-1),
                                                     problem.normalize, call.normalizer_factor(part), call.precision());
      intra_backward(batch, d.dn, d.dl, g);
      if (before[i].defined()) {
        dbefore = query_state_backward(batch, states_before(before[i]), d.dn, d.dl, g).unflatten(0, {-1, part.chunks});
      }
      if (problem.normalize == Normalize::kSum) remove_excess(batch, rows_r, g);
    }
    if (dbefore.defined() || dafter.defined()) {
      const bool reads_sums = dafter.defined() || part.chunks > 1;
      if (!dbefore.defined()) {
        std::vector<int64_t> shape = dafter.sizes().vec();
        shape.insert(shape.begin() + 1, part.chunks);
        dbefore = at::zeros(shape, dafter.options());
      }
      // dbefore becomes the gradient of the state after each chunk.
      at::Tensor dfirst = discounted_sum_backward_(dbefore, call.chunk_decay(batch, part), dafter);
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
      if (call.row_scale().defined()) dq = dq * call.query_blocks(call.row_scale(), part, real);
      from_blocks(dq, out.dq, problem.heads, call.first_query(part), part.chunks, part.queries);
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
        dafter.defined() ? call.split_state(dafter) : call.split_state(at::zeros_like(initial));
  } else {
    out.dinitial_state = out.dinitial_key_sum = none;
  }
  return out;
}

}  // namespace power::ops::composed
