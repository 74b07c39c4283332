#include "ops/composed/intra.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace power::ops {
namespace {

// Query tokens per tile. Only the tile on the diagonal needs a factor per pair (and wastes its upper half); the keys
// before it take one factor per key and one per row, through the last key before the tile.
int64_t tile_tokens(const ChunkBatch& batch) {
  if (!batch.k.is_cuda()) return 64;
  return batch.keys() <= 4096 ? 128 : 256;
}

// score^p, by multiplication; the result in `dtype`. power 0 gives an undefined tensor (a factor of one).
at::Tensor power_of(const at::Tensor& score, int64_t power, at::ScalarType dtype) {
  if (power == 0) return {};
  if (power == 1) return score.to(dtype);
  at::Tensor half = power > 3 ? power_of(score, power / 2, score.scalar_type()) : score;
  if (power % 2 == 1) {
    at::Tensor odd = half * score;
    at::Tensor out = at::empty(score.sizes(), score.options().dtype(dtype));
    return at::mul_out(out, odd, half);
  }
  at::Tensor out = at::empty(score.sizes(), score.options().dtype(dtype));
  return at::mul_out(out, half, half);
}

// a * b in the dtype of operands, b undefined standing for one.
at::Tensor operand_product(const at::Tensor& a, const at::Tensor& b, at::ScalarType dtype) {
  if (!b.defined()) return a.to(dtype);
  at::Tensor out = at::empty(a.sizes(), a.options().dtype(dtype));
  return at::mul_out(out, a, b);
}

// scores (G, tokens*R, tokens) times a factor per pair of tokens (G or 1, tokens, tokens); undefined scores are ones.
at::Tensor times_pairs(const at::Tensor& scores, const at::Tensor& pairs, int64_t blocks, int64_t group) {
  const int64_t tokens = pairs.size(1);
  const at::Tensor factors = pairs.unsqueeze(2);
  if (!scores.defined()) return factors.expand({blocks, tokens, group, tokens}).reshape({blocks, -1, tokens});
  return (scores.view({blocks, tokens, group, tokens}) * factors).view(scores.sizes());
}

struct Tile {
  int64_t row, rows;      // in q
  int64_t first, tokens;  // key positions on the diagonal
};

template <class Body>
void for_each_tile(const ChunkBatch& batch, const Body& body) {
  const int64_t step = tile_tokens(batch);
  for (int64_t token = 0; token < batch.queries; token += step) {
    const int64_t tokens = std::min(step, batch.queries - token);
    body(Tile{token * batch.group, tokens * batch.group, batch.offset() + token, tokens});
  }
}

void forward_slice(const ChunkBatch& b, at::Tensor out) {
  const Precision& precision = b.precision;
  const int64_t columns = b.value_dim();
  const at::Tensor ones = at::ones({b.blocks(), b.keys()}, b.v.options().dtype(precision.real));
  const at::Tensor values = right(b.v, ones, precision);
  for_each_tile(b, [&](const Tile& t) {
    const at::Tensor q = b.q.narrow(1, t.row, t.rows);
    const at::Tensor score = product(q, b.k.narrow(1, t.first, t.tokens).transpose(1, 2), precision);
    at::Tensor weights = times_pairs(power_of(score, b.degree, precision.real),
                                     b.gates.tile(t.first, t.first + t.tokens, score.options()), b.blocks(), b.group);
    at::Tensor sum = product(weights.to(precision.operand), values.narrow(1, t.first, t.tokens), precision);
    if (t.first > 0) {
      weights = power_of(product(q, b.k.narrow(1, 0, t.first).transpose(1, 2), precision), b.degree, precision.operand);
      if (b.gates.present()) {
        const at::Tensor decay = b.gates.until(t.first - 1, precision.real);
        const at::Tensor decayed = right(b.v.narrow(1, 0, t.first) * decay.unsqueeze(-1), decay, precision);
        const at::Tensor rows = b.per_row(b.gates.after(t.first - 1, t.first, t.first + t.tokens, precision.real));
        sum.addcmul_(product(weights, decayed, precision), rows);
      } else {
        sum.add_(product(weights, values.narrow(1, 0, t.first), precision));
      }
    }
    out.narrow(1, t.row, t.rows).add_(collapse_right(sum, columns, precision));
  });
}

// Pairs on the diagonal of a tile. values: [v, 1] of all keys; dn and dl are the tile's rows.
void diagonal_backward(const ChunkBatch& b, const Tile& t, const at::Tensor& values, const at::Tensor& dn,
                       const at::Tensor& dl, ChunkGradients& g) {
  const Precision& precision = b.precision;
  const auto p = static_cast<double>(b.degree);
  const at::Tensor q = b.q.narrow(1, t.row, t.rows), k = b.k.narrow(1, t.first, t.tokens);
  const at::Tensor d = left(dn, dl, precision);
  const at::Tensor score = product(q, k.transpose(1, 2), precision);
  // score^{p-1} decay: d weight / d score / p
  const at::Tensor slope = times_pairs(power_of(score, b.degree - 1, precision.real),
                                       b.gates.tile(t.first, t.first + t.tokens, score.options()), b.blocks(), b.group);
  const at::Tensor weights = operand_product(slope, score, precision.operand);
  const at::Tensor dweights = product(d, values.narrow(1, t.first, t.tokens).transpose(1, 2), precision);
  const at::Tensor dscore = operand_product(dweights, slope, precision.operand);
  const at::Tensor dq = product(dscore, k, precision), dk = product(dscore.transpose(1, 2), q, precision);
  g.q.narrow(1, t.row, t.rows).add_(dq, p);
  g.k.narrow(1, t.first, t.tokens).add_(dk, p);
  g.v.narrow(1, t.first, t.tokens).add_(product(weights.transpose(1, 2), d.narrow(2, 0, b.value_dim()), precision));
  if (g.log_g.defined()) {
    const at::Tensor flow = b.per_token(row_dot(q, dq)) - row_dot(k, dk);
    g.log_g.narrow(1, t.first, t.tokens).add_(cumulative_sum(flow, true));
  }
}

// Pairs of a tile's queries with the keys before the tile.
void before_backward(const ChunkBatch& b, const Tile& t, const at::Tensor& values, const at::Tensor& dn,
                     const at::Tensor& dl, ChunkGradients& g) {
  // Weights here are (score^p) times a factor per row and one per key. Both stay out of the product of dn and v,
  // whose difference from dl must be exact, and join the other operand of what follows, or its result.
  const Precision& precision = b.precision;
  const at::Tensor q = b.q.narrow(1, t.row, t.rows), before = b.k.narrow(1, 0, t.first), d = left(dn, dl, precision);
  at::Tensor decay, rows, decayed_k = before, decayed_q = q, decayed_d = d.narrow(2, 0, b.value_dim());
  if (b.gates.present()) {
    decay = b.gates.until(t.first - 1, precision.real).unsqueeze(-1);
    rows = b.per_row(b.gates.after(t.first - 1, t.first, t.first + t.tokens, precision.real));
    decayed_k = (before * decay).to(precision.operand);
    decayed_q = (q * rows).to(precision.operand);
    decayed_d = (dn * rows).to(precision.operand);
  }
  const at::Tensor score = product(q, before.transpose(1, 2), precision);
  const at::Tensor dweights = product(d, values.narrow(1, 0, t.first).transpose(1, 2), precision);
  const at::Tensor weights = power_of(score, b.degree, precision.operand);
  const at::Tensor dscore = operand_product(dweights, power_of(score, b.degree - 1, precision.real), precision.operand);
  at::Tensor dq = product(dscore, decayed_k, precision);
  at::Tensor dk = product(dscore.transpose(1, 2), decayed_q, precision);
  at::Tensor dv = product(weights.transpose(1, 2), decayed_d, precision);
  if (b.gates.present()) {
    dq.mul_(rows);
    dk.mul_(decay);
    dv.mul_(decay);
  }
  g.q.narrow(1, t.row, t.rows).add_(dq, static_cast<double>(b.degree));
  g.k.narrow(1, 0, t.first).add_(dk, static_cast<double>(b.degree));
  g.v.narrow(1, 0, t.first).add_(dv);
  if (g.log_g.defined()) {
    // Pairs across the tile's start: the gates of the tile up to the query, and those of the keys after key j.
    g.log_g.narrow(1, t.first, t.tokens).add_(cumulative_sum(b.per_token(row_dot(q, dq)), true));
    g.log_g.narrow(1, 0, t.first).add_(exclusive_cumulative_sum(row_dot(before, dk)));
  }
}

void backward_slice(const ChunkBatch& b, const at::Tensor& dn, const at::Tensor& dl, ChunkGradients g) {
  const at::Tensor ones = at::ones({b.blocks(), b.keys()}, b.v.options().dtype(b.precision.real));
  const at::Tensor values = right(b.v, ones, b.precision);
  for_each_tile(b, [&](const Tile& t) {
    const at::Tensor dn_tile = dn.narrow(1, t.row, t.rows), dl_tile = dl.narrow(1, t.row, t.rows);
    diagonal_backward(b, t, values, dn_tile, dl_tile, g);
    if (t.first > 0) before_backward(b, t, values, dn_tile, dl_tile, g);
  });
}

int64_t elements_per_block(const ChunkBatch& b) { return std::min(tile_tokens(b), b.queries) * b.group * b.keys(); }

}  // namespace

void intra_forward(const ChunkBatch& batch, at::Tensor& out) {
  for_each_slice(batch.blocks(), elements_per_block(batch), batch.k.is_cuda(), [&](int64_t first, int64_t count) {
    forward_slice(batch.slice(first, count), out.narrow(0, first, count));
  });
}

void intra_backward(const ChunkBatch& batch, const at::Tensor& dn, const at::Tensor& dl, ChunkGradients& gradients) {
  for_each_slice(batch.blocks(), elements_per_block(batch), batch.k.is_cuda(), [&](int64_t first, int64_t count) {
    backward_slice(batch.slice(first, count), dn.narrow(0, first, count), dl.narrow(0, first, count),
                   gradients.slice(first, count));
  });
}

}  // namespace power::ops
