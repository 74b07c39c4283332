#include "ops/composed/state.h"

#include <ATen/ATen.h>

#include "ops/symmetric_power.h"

namespace power::ops {
namespace {

// phi_{p-1}(x) (x) u, flattened: what multiplies state_gradient_matrix.
at::Tensor outer_features(const at::Tensor& x, const at::Tensor& u, int64_t degree) {
  if (degree == 1) return u;
  return (phi(x, degree - 1).unsqueeze(-1) * u.unsqueeze(-2)).flatten(-2);
}

at::Tensor state_multiplicity(const ChunkBatch& b) {
  return multiplicity(b.head_dim(), b.degree, b.k.options().dtype(b.precision.real));
}

at::Tensor split_right(const at::Tensor& state, const Precision& precision) {
  if (!precision.split()) return state;
  const int64_t columns = state.size(-1) - 1;
  return right(state.narrow(-1, 0, columns), state.select(-1, columns), precision);
}

// The gradient of x through phi(x).state: pairs u with each row.
at::Tensor contract(const at::Tensor& x, const at::Tensor& u, const at::Tensor& state, const ChunkBatch& b) {
  return product(outer_features(x, u, b.degree), state_gradient_matrix(state, b.head_dim(), b.degree), b.precision);
}

// Temporaries of one block in elements: features of its rows, and rows of the outer product.
int64_t forward_elements(const ChunkBatch& b, int64_t rows) { return rows * state_dim(b.head_dim(), b.degree); }
int64_t backward_elements(const ChunkBatch& b, int64_t rows) {
  // Features, the outer product, and the matrix that contracts it.
  const int64_t outer = state_dim(b.head_dim(), b.degree - 1) * (b.value_dim() + 8);
  return rows * (state_dim(b.head_dim(), b.degree) + outer) + b.head_dim() * outer;
}

at::Tensor ones_for(const ChunkBatch& b) {
  return at::ones({b.blocks(), b.keys()}, b.v.options().dtype(b.precision.real));
}

at::Tensor broadcast_over_state(const at::Tensor& decay, const at::Tensor& x) {  // (M) -> (M,1,...)
  std::vector<int64_t> shape(x.dim(), 1);
  shape[0] = decay.size(0);
  return decay.view(shape);
}

}  // namespace

at::Tensor chunk_states(const ChunkBatch& batch) {
  const Precision& precision = batch.precision;
  const int64_t features = state_dim(batch.head_dim(), batch.degree), columns = batch.value_dim();
  at::Tensor out = at::empty({batch.blocks(), features, columns + 1}, batch.k.options().dtype(precision.real));
  for_each_slice(
      batch.blocks(), forward_elements(batch, batch.keys()), batch.k.is_cuda(), [&](int64_t first, int64_t n) {
        const ChunkBatch b = batch.slice(first, n);
        const at::Tensor decay = b.gates.to_end(precision.real);
        const at::Tensor values =
            decay.defined() ? right(b.v * decay.unsqueeze(-1), decay, precision) : right(b.v, ones_for(b), precision);
        const at::Tensor sums = product(phi(b.k, b.degree).transpose(1, 2), values, precision);
        at::Tensor to = out.narrow(0, first, n);
        at::mul_out(to, collapse_right(sums, columns, precision), state_multiplicity(b));
      });
  return out;
}

void chunk_states_backward(const ChunkBatch& batch, const at::Tensor& dstate, ChunkGradients& gradients) {
  const Precision& precision = batch.precision;
  const int64_t columns = batch.value_dim();
  for_each_slice(batch.blocks(), backward_elements(batch, batch.keys()), batch.k.is_cuda(),
                 [&](int64_t first, int64_t n) {
                   const ChunkBatch b = batch.slice(first, n);
                   ChunkGradients g = gradients.slice(first, n);
                   const at::Tensor dsum = split_right(dstate.narrow(0, first, n) * state_multiplicity(b), precision);
                   const at::Tensor decay = b.gates.to_end(precision.real);
                   // Decays multiply whole rows of the results, where they cost no rounding of operands.
                   at::Tensor dk = contract(b.k, left(b.v, ones_for(b), precision), dsum, b);
                   if (decay.defined()) dk.mul_(decay.unsqueeze(-1));
                   g.k.add_(dk);
                   const at::Tensor dv = product(phi(b.k, b.degree), dsum.narrow(2, 0, columns), precision);
                   if (!decay.defined()) {
                     g.v.add_(dv);
                     return;
                   }
                   g.v.addcmul_(dv, decay.unsqueeze(-1));
                   if (g.log_g.defined()) {
                     g.log_g.add_(exclusive_cumulative_sum(row_dot(b.k, dk)), 1.0 / static_cast<double>(b.degree));
                   }
                 });
}

void query_state_forward(const ChunkBatch& batch, const at::Tensor& state, at::Tensor& out) {
  const Precision& precision = batch.precision;
  const int64_t columns = batch.value_dim(), rows = batch.queries * batch.group;
  for_each_slice(batch.blocks(), forward_elements(batch, rows), batch.k.is_cuda(), [&](int64_t first, int64_t n) {
    const ChunkBatch b = batch.slice(first, n);
    const at::Tensor values = split_right(state.narrow(0, first, n), precision);
    const at::Tensor sums = collapse_right(product(phi(b.q, b.degree), values, precision), columns, precision);
    at::Tensor to = out.narrow(0, first, n);
    if (b.gates.present()) {
      to.addcmul_(sums, b.per_row(b.gates.from_start(b.offset(), b.keys(), precision.real)));
    } else {
      to.add_(sums);
    }
  });
}

at::Tensor query_state_backward(const ChunkBatch& batch, const at::Tensor& state, const at::Tensor& dn,
                                const at::Tensor& dl, ChunkGradients& gradients) {
  const Precision& precision = batch.precision;
  const int64_t columns = batch.value_dim(), rows = batch.queries * batch.group;
  at::Tensor dstate = at::empty_like(state, at::MemoryFormat::Contiguous);
  for_each_slice(batch.blocks(), backward_elements(batch, rows), batch.k.is_cuda(), [&](int64_t first, int64_t n) {
    const ChunkBatch b = batch.slice(first, n);
    ChunkGradients g = gradients.slice(first, n);
    const at::Tensor dn_rows = dn.narrow(0, first, n), dl_rows = dl.narrow(0, first, n);
    const at::Tensor d = left(dn_rows, dl_rows, precision);
    at::Tensor decayed = d, dq = contract(b.q, d, split_right(state.narrow(0, first, n), precision), b);
    if (b.gates.present()) {
      const at::Tensor decay = b.per_row(b.gates.from_start(b.offset(), b.keys(), precision.real));
      decayed = left(dn_rows * decay, dl_rows * decay.squeeze(-1), precision);
      dq.mul_(decay);
    }
    dstate.narrow(0, first, n)
        .copy_(collapse_left(product(phi(b.q, b.degree).transpose(1, 2), decayed, precision), columns, precision));
    g.q.add_(dq);
    if (g.log_g.defined()) {
      g.log_g.narrow(1, b.offset(), b.queries)
          .add_(cumulative_sum(b.per_token(row_dot(b.q, dq)), true), 1.0 / static_cast<double>(b.degree));
      // The gates of keys before the first query stand between the state and every query.
      if (b.offset() > 0) {
        const at::Tensor all = row_dot(b.q, dq).sum(-1, true);
        g.log_g.narrow(1, 0, b.offset()).add_(all, 1.0 / static_cast<double>(b.degree));
      }
    }
  });
  return dstate;
}

at::Tensor discounted_sum_(at::Tensor& x, const at::Tensor& decay, const at::Tensor& initial) {
  at::Tensor value = initial.defined() ? initial : at::zeros_like(x.select(1, 0));
  for (int64_t n = 0; n < x.size(1); ++n) {
    at::Tensor slot = x.select(1, n);
    const at::Tensor next =
        decay.defined() ? at::addcmul(slot, value, broadcast_over_state(decay.select(1, n), slot)) : slot + value;
    slot.copy_(value);
    value = next;
  }
  return value;
}

at::Tensor discounted_sum_backward_(at::Tensor& dx, const at::Tensor& decay, const at::Tensor& dlast) {
  at::Tensor value = dlast.defined() ? dlast : at::zeros_like(dx.select(1, 0));
  for (int64_t n = dx.size(1) - 1; n >= 0; --n) {
    at::Tensor slot = dx.select(1, n);
    const at::Tensor next =
        decay.defined() ? at::addcmul(slot, value, broadcast_over_state(decay.select(1, n), slot)) : slot + value;
    slot.copy_(value);
    value = next;
  }
  return value;
}

}  // namespace power::ops
