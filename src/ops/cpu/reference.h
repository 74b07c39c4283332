#pragma once

#include <cstdint>

// The operator written down from its definition, in loops over raw pointers: what everything else is compared with.
// All pairs of a query and a key, no blocking, no features, no cumulative sums; the gradients by the chain rule over
// the same pairs. Slow on purpose. Real is float or double.
namespace power::ops::reference {

struct Shape {
  int64_t batch, query_len, key_len, query_heads, heads, head_dim, value_dim, degree;
  double scale;
  enum { kSum, kLayer, kNone } normalize;
};

// q (B,TQ,HQ,D), k (B,TK,H,D), v (B,TK,H,E), log_g (B,TK,H) or null -> y (B,TQ,HQ,E). Contiguous.
template <class Real>
void forward(const Shape& shape, const Real* q, const Real* k, const Real* v, const Real* log_g, Real* y);

// Gradients (same shapes; dlog_g null where log_g is null) for dy, by the chain rule.
template <class Real>
void backward(const Shape& shape, const Real* dy, const Real* q, const Real* k, const Real* v, const Real* log_g,
              Real* dq, Real* dk, Real* dv, Real* dlog_g);

}  // namespace power::ops::reference
