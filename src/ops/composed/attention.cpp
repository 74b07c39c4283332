#include <ATen/ATen.h>

#include "ops/composed/call.h"
#include "ops/composed/intra.h"
#include "ops/composed/low_level.h"
#include "ops/composed/normalize.h"

namespace power::ops::composed {

Tensor2 attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const OptTensor& log_g, int64_t degree,
                  OptDouble scale, bool normalize) {
  const Problem p = check_problem(q, k, v, log_g, {}, {}, degree, scale, 0, "sum", false);
  const Call call(p, q, k, v, log_g);
  const Segment part = call.parts()[0];
  const ChunkBatch batch = call.batch(part);
  const at::TensorOptions real = k.options().dtype(call.precision().real);
  at::Tensor y = at::empty({p.batch, p.query_len, p.query_heads, p.value_dim}, normalize ? q.options() : real);
  at::Tensor l = at::empty({p.batch, p.query_len, p.query_heads, 1}, real);
  at::Tensor sums = at::zeros({batch.blocks(), p.query_len * batch.group, p.value_dim + 1}, real);
  intra_forward(batch, sums);
  const at::Tensor factor = call.weight_factor(part);
  const auto kind = normalize ? Normalize::kSum : Normalize::kNone;
  from_blocks(normalize_rows(sums, kind, factor).y, y, p.heads, 0, 1, p.query_len);
  from_blocks(sums.narrow(-1, p.value_dim, 1) * factor, l, p.heads, 0, 1, p.query_len);
  return {y, l.squeeze(-1)};
}

Tensor4 attention_backward(const OptTensor& dy, const OptTensor& dl, const at::Tensor& q, const at::Tensor& k,
                           const at::Tensor& v, const OptTensor& log_g, const at::Tensor& y, const at::Tensor& l,
                           int64_t degree, OptDouble scale, bool normalize) {
  const Problem p = check_problem(q, k, v, log_g, {}, {}, degree, scale, 0, "sum", false);
  const Call call(p, q, k, v, log_g);
  const Segment part = call.parts()[0];
  const ChunkBatch batch = call.batch(part);
  const at::ScalarType real = call.precision().real;
  const at::TensorOptions options = k.options().dtype(real);
  const at::Tensor factor = call.weight_factor(part);
  const int64_t rows = p.query_len * batch.group;

  at::Tensor dn = at::zeros({batch.blocks(), rows, p.value_dim}, options);
  at::Tensor dsum = at::zeros({batch.blocks(), rows, 1}, options), r;
  if (dl.has_value()) dsum = call.query_blocks(dl->unsqueeze(-1), part, real) * factor;
  if (dy.has_value() && normalize) {
    // l here is the true one; times the factor its inverse is that of the computed weights.
    const at::Tensor sum = call.query_blocks(l.unsqueeze(-1), part, real) / factor;
    r = reciprocal_or_zero(sum);
    const at::Tensor dy_rows = call.query_blocks(*dy, part, real);
    // Rounded as products will read it, see normalize_rows_backward.
    dn = (dy_rows * r).to(call.precision().operand).to(real);
    dsum = dsum - (dn * call.query_blocks(y, part, real)).sum(-1, true);
  } else if (dy.has_value()) {
    dn = call.query_blocks(*dy, part, real) * factor;
  }

  ChunkGradients g{at::zeros({batch.blocks(), rows, p.head_dim}, options),
                   at::zeros({batch.blocks(), p.key_len, p.head_dim}, options),
                   at::zeros({batch.blocks(), p.key_len, p.value_dim}, options),
                   {}};
  if (log_g.has_value()) g.log_g = at::zeros({batch.blocks(), p.key_len}, options.dtype(at::kDouble));
  intra_backward(batch, dn, dsum.squeeze(-1), g);
  if (r.defined() && !dl.has_value()) remove_excess(batch, r, g);

  at::Tensor dq = at::empty(q.sizes(), q.options()), dk = at::empty(k.sizes(), k.options());
  at::Tensor dv = at::empty(v.sizes(), v.options()), dlog_g = at::empty({0}, options);
  if (call.row_scale().defined()) g.q.mul_(call.query_blocks(call.row_scale(), part, real));
  from_blocks(g.q, dq, p.heads, 0, 1, p.query_len);
  from_blocks(g.k, dk, p.heads, 0, 1, p.key_len);
  from_blocks(g.v, dv, p.heads, 0, 1, p.key_len);
  if (log_g.has_value()) {
    at::Tensor column = at::empty({p.batch, p.key_len, p.heads, 1}, log_g->options());
    from_blocks(g.log_g.masked_fill_(batch.gates.resets(), 0), column, p.heads, 0, 1, p.key_len);
    dlog_g = column.squeeze(-1);
  }
  return {dq, dk, dv, dlog_g};
}

}  // namespace power::ops::composed
