#include "ops/composed/normalize.h"

#include <ATen/ATen.h>

namespace power::ops {

at::Tensor reciprocal_or_zero(const at::Tensor& x) { return x.reciprocal().masked_fill_(x == 0, 0); }

Normalized normalize_rows(const at::Tensor& sums, Normalize kind, const at::Tensor& factor) {
  const int64_t columns = sums.size(-1) - 1;
  const at::Tensor numerator = sums.narrow(-1, 0, columns);
  if (kind == Normalize::kSum) {
    const at::Tensor r = reciprocal_or_zero(sums.select(-1, columns));
    return {numerator * r.unsqueeze(-1), r};
  }
  if (kind == Normalize::kNone) return {numerator * factor, at::ones_like(sums.select(-1, columns))};
  const at::Tensor centred = numerator - numerator.mean(-1, true);
  const at::Tensor r = reciprocal_or_zero(centred.square().mean(-1).sqrt_());
  return {centred * r.unsqueeze(-1) * factor, r};
}

RowGradients normalize_rows_backward(const at::Tensor& dy, const at::Tensor& y, const at::Tensor& r, Normalize kind,
                                     const at::Tensor& factor, const Precision& precision) {
  if (kind == Normalize::kSum) {
    const at::Tensor dn = (dy * r.unsqueeze(-1)).to(precision.operand).to(precision.real);
    return {dn, (dn * y).sum(-1).neg_()};
  }
  if (kind == Normalize::kNone) return {dy * factor, at::zeros_like(r)};
  const at::Tensor through_root = dy - dy.mean(-1, true) - y * (dy * y).mean(-1, true);
  return {through_root * r.unsqueeze(-1) * factor, at::zeros_like(r)};
}

void remove_excess(const ChunkBatch& batch, const at::Tensor& r, ChunkGradients& gradients) {
  const at::ScalarType real = batch.precision.real;
  const int64_t elements = batch.queries * batch.group * batch.head_dim();
  for_each_slice(batch.blocks(), elements, batch.k.is_cuda(), [&](int64_t first, int64_t n) {
    const ChunkBatch b = batch.slice(first, n);
    ChunkGradients g = gradients.slice(first, n);
    const at::Tensor q = b.q.to(real), own = b.k.narrow(1, b.offset(), b.queries).to(real);
    const at::Tensor k = b.group == 1 ? own : own.repeat_interleave(b.group, 1);
    const at::Tensor slope = (q * k).sum(-1, true).pow(b.degree - 1);
    const at::Tensor excess = (q * g.q).sum(-1, true) * r.narrow(0, first, n) * slope;  // p e_i r_i dw_ii / dscore_ii
    g.q.addcmul_(excess, k, -1);
    g.k.narrow(1, b.offset(), b.queries).sub_((excess * q).unflatten(1, {b.queries, b.group}).sum(2));
  });
}

at::Tensor row_scaling(const at::Tensor& q, const at::Tensor& k) {
  const int64_t heads = k.size(2), group = q.size(2) / heads;
  const auto exponent = [](const at::Tensor& x) {  // x = m 2^e with 1/2 <= m < 1; 0 for zero
    return std::get<1>(at::frexp(x.to(at::kFloat)));
  };
  const at::Tensor of_q = exponent(q.abs().amax(-1, true));                                  // (B,T,HQ,1)
  const at::Tensor of_k = exponent(k.abs().amax({1, 3}, true)).repeat_interleave(group, 2);  // (B,1,HQ,1)
  // The float with this exponent, put together from its bits.
  const at::Tensor bits = (127 - of_q - of_k).clamp_(1, 254).to(at::kInt);
  return bits.mul_(1 << 23).view(at::kFloat);
}

}  // namespace power::ops
