#include "ops/composed/call.h"

#include <ATen/ATen.h>

#include <cmath>

#include "ops/composed/normalize.h"
#include "ops/symmetric_power.h"

namespace power::ops::composed {

Call::Call(const Problem& problem, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
           const OptTensor& log_g)
    : problem_(problem), precision_(Precision::of(k)), q_(q), k_(k), v_(v), parts_(segments(problem)) {
  if (problem.degree > 2) {
    row_scale_ = row_scaling(q, k);
    q_ = q.to(precision_.real) * row_scale_;
  }
  if (log_g.has_value()) log_g_ = log_g->to(at::kDouble).unsqueeze(-1);
}

at::Tensor Call::query_blocks(const at::Tensor& x, const Segment& part, at::ScalarType dtype) const {
  return to_blocks(x, problem_.heads, first_query(part), part.chunks, part.queries, dtype);
}

ChunkBatch Call::batch(const Segment& part) const {
  const auto keys = [&](const at::Tensor& x, at::ScalarType dtype) {
    return to_blocks(x, problem_.heads, part.first, part.chunks, part.keys, dtype);
  };
  ChunkBatch b;
  b.precision = precision_;
  b.degree = problem_.degree;
  b.group = problem_.group();
  b.queries = part.queries;
  if (part.queries > 0) b.q = query_blocks(q_, part, precision_.operand);
  b.k = keys(k_, precision_.operand);
  b.v = keys(v_, precision_.operand);
  if (log_g_.defined()) b.gates = Gates(keys(log_g_, at::kDouble).squeeze(-1));
  return b;
}

at::Tensor Call::weight_factor(const Segment& part) const {
  if (!row_scale_.defined()) {
    return at::full({1}, std::pow(problem_.scale, problem_.degree), k_.options().dtype(precision_.real));
  }
  const at::Tensor undone = problem_.scale / query_blocks(row_scale_, part, at::kDouble);
  return undone.pow(problem_.degree).to(precision_.real);
}

at::Tensor Call::normalizer_factor(const Segment& part) const {
  if (problem_.normalize == Normalize::kSum) return {};
  if (problem_.normalize == Normalize::kNone) return weight_factor(part);
  const bool flips = problem_.scale < 0 && problem_.degree % 2 == 1;
  return at::full({1}, flips ? -1.0 : 1.0, k_.options().dtype(precision_.real));
}

at::Tensor Call::chunk_decay(const ChunkBatch& batch, const Segment& part) const {
  const at::Tensor whole = batch.gates.whole(precision_.real);
  return whole.defined() ? whole.view({-1, part.chunks}) : whole;
}

bool Call::sums_needed(size_t i) const {
  return problem_.return_state || i + 1 < parts_.size() || parts_[i].chunks > 1;
}

at::Tensor Call::join_state(const OptTensor& state, const OptTensor& key_sum) const {
  if (!state.has_value() && !key_sum.has_value()) return {};
  const int64_t features = state_dim(problem_.head_dim, problem_.degree), columns = problem_.value_dim;
  at::Tensor out =
      at::zeros({problem_.batch * problem_.heads, features, columns + 1}, k_.options().dtype(precision_.real));
  if (state.has_value()) out.narrow(-1, 0, columns).copy_(state->reshape({-1, features, columns}));
  if (key_sum.has_value()) out.select(-1, columns).copy_(key_sum->reshape({-1, features}));
  return out;
}

std::pair<at::Tensor, at::Tensor> Call::split_state(const at::Tensor& joined) const {
  const int64_t columns = problem_.value_dim;
  const at::Tensor all = joined.unflatten(0, {problem_.batch, problem_.heads});
  return {all.narrow(-1, 0, columns).contiguous(), all.select(-1, columns).contiguous()};
}

}  // namespace power::ops::composed
