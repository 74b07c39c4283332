#include "ops/cpu/reference.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace power::ops::reference {
namespace {

// One query row: its scores, gates and weights against every key, and what y needs of them.
template <class Real>
struct Row {
  std::vector<Real> score, decay, weight;  // scale q.k; product of the gates between; score^p decay
  std::vector<Real> numerator, y;
  Real l = 0, root = 0;  // sum of the weights; of `layer`
};

template <class Real>
Real power(Real x, int64_t p) {
  Real result = 1;
  for (int64_t i = 0; i < p; ++i) result *= x;
  return result;
}

template <class Real>
struct Case {
  const Shape& s;
  const Real *q, *k, *v, *log_g;

  const Real* q_row(int64_t b, int64_t i, int64_t h) const {
    return q + ((b * s.query_len + i) * s.query_heads + h) * s.head_dim;
  }
  int64_t key_index(int64_t b, int64_t j, int64_t h) const { return (b * s.key_len + j) * s.heads + h; }
  const Real* k_row(int64_t b, int64_t j, int64_t h) const { return k + key_index(b, j, h) * s.head_dim; }
  const Real* v_row(int64_t b, int64_t j, int64_t h) const { return v + key_index(b, j, h) * s.value_dim; }
  int64_t position(int64_t i) const { return s.key_len - s.query_len + i; }

  Row<Real> row(int64_t b, int64_t i, int64_t query_head) const {
    const int64_t h = query_head / (s.query_heads / s.heads), last = position(i);
    Row<Real> r;
    r.score.assign(last + 1, 0);
    r.decay.assign(last + 1, 1);
    r.weight.assign(last + 1, 0);
    r.numerator.assign(s.value_dim, 0);
    // exp of the sum of the log gates of the keys after j, up to the query's own.
    Real log_decay = 0;
    for (int64_t j = last; j >= 0; --j) {
      r.decay[j] = std::exp(log_decay);
      if (log_g != nullptr) log_decay += log_g[key_index(b, j, h)];
    }
    const Real* qi = q_row(b, i, query_head);
    for (int64_t j = 0; j <= last; ++j) {
      const Real* kj = k_row(b, j, h);
      Real dot = 0;
      for (int64_t d = 0; d < s.head_dim; ++d) dot += qi[d] * kj[d];
      r.score[j] = static_cast<Real>(s.scale) * dot;
      r.weight[j] = power(r.score[j], s.degree) * r.decay[j];
      r.l += r.weight[j];
      for (int64_t e = 0; e < s.value_dim; ++e) r.numerator[e] += r.weight[j] * v_row(b, j, h)[e];
    }
    normalize(r);
    return r;
  }

  void normalize(Row<Real>& r) const {
    r.y = r.numerator;
    if (s.normalize == Shape::kSum) {
      for (Real& y : r.y) y = r.l == 0 ? 0 : y / r.l;
    } else if (s.normalize == Shape::kLayer) {
      Real mean = 0, square = 0;
      for (Real y : r.y) mean += y / static_cast<Real>(s.value_dim);
      for (Real& y : r.y) y -= mean;
      for (Real y : r.y) square += y * y / static_cast<Real>(s.value_dim);
      r.root = std::sqrt(square);
      for (Real& y : r.y) y = r.root == 0 ? 0 : y / r.root;
    }
  }

  // d loss / d numerator and, for `sum`, d loss / d l.
  std::vector<Real> numerator_gradient(const Row<Real>& r, const Real* dy, Real& dl) const {
    std::vector<Real> dn(dy, dy + s.value_dim);
    dl = 0;
    if (s.normalize == Shape::kSum) {
      for (int64_t e = 0; e < s.value_dim; ++e) {
        dl -= r.l == 0 ? 0 : dy[e] * r.numerator[e] / (r.l * r.l);
        dn[e] = r.l == 0 ? 0 : dy[e] / r.l;
      }
    } else if (s.normalize == Shape::kLayer) {
      // y = m / root, m = n - mean n, root^2 = mean m^2.
      Real dot = 0, mean = 0;
      for (int64_t e = 0; e < s.value_dim; ++e) dot += dy[e] * r.y[e] / static_cast<Real>(s.value_dim);
      for (int64_t e = 0; e < s.value_dim; ++e) dn[e] = r.root == 0 ? 0 : (dy[e] - r.y[e] * dot) / r.root;
      for (int64_t e = 0; e < s.value_dim; ++e) mean += dn[e] / static_cast<Real>(s.value_dim);
      for (Real& x : dn) x -= mean;
    }
    return dn;
  }
};

}  // namespace

template <class Real>
void forward(const Shape& s, const Real* q, const Real* k, const Real* v, const Real* log_g, Real* y) {
  const Case<Real> c{s, q, k, v, log_g};
  for (int64_t b = 0; b < s.batch; ++b) {
    for (int64_t i = 0; i < s.query_len; ++i) {
      for (int64_t h = 0; h < s.query_heads; ++h, y += s.value_dim) {
        const Row<Real> row = c.row(b, i, h);
        std::copy(row.y.begin(), row.y.end(), y);
      }
    }
  }
}

template <class Real>
void backward(const Shape& s, const Real* dy, const Real* q, const Real* k, const Real* v, const Real* log_g, Real* dq,
              Real* dk, Real* dv, Real* dlog_g) {
  const Case<Real> c{s, q, k, v, log_g};
  const int64_t keys = s.batch * s.key_len * s.heads;
  std::fill(dk, dk + keys * s.head_dim, Real(0));
  std::fill(dv, dv + keys * s.value_dim, Real(0));
  if (dlog_g != nullptr) std::fill(dlog_g, dlog_g + keys, Real(0));
  for (int64_t b = 0; b < s.batch; ++b) {
    for (int64_t i = 0; i < s.query_len; ++i) {
      for (int64_t hq = 0; hq < s.query_heads; ++hq, dy += s.value_dim, dq += s.head_dim) {
        const int64_t h = hq / (s.query_heads / s.heads), last = c.position(i);
        const Row<Real> row = c.row(b, i, hq);
        Real dl = 0;
        const std::vector<Real> dn = c.numerator_gradient(row, dy, dl);
        const Real* qi = c.q_row(b, i, hq);
        std::fill(dq, dq + s.head_dim, Real(0));
        Real earlier = 0;  // sum over the keys so far of dw w: what a gate after them scales
        for (int64_t j = 0; j <= last; ++j) {
          const int64_t key = c.key_index(b, j, h);
          // The gate of key j lies between every earlier key and this query.
          if (dlog_g != nullptr && !std::isinf(log_g[key])) dlog_g[key] += earlier;
          Real dw = dl;
          for (int64_t e = 0; e < s.value_dim; ++e) {
            dw += dn[e] * v[key * s.value_dim + e];
            dv[key * s.value_dim + e] += row.weight[j] * dn[e];
          }
          const Real dscore = dw * row.decay[j] * static_cast<Real>(s.degree) * power(row.score[j], s.degree - 1);
          const Real ddot = static_cast<Real>(s.scale) * dscore;
          for (int64_t d = 0; d < s.head_dim; ++d) {
            dq[d] += ddot * k[key * s.head_dim + d];
            dk[key * s.head_dim + d] += ddot * qi[d];
          }
          earlier += dw * row.weight[j];
        }
      }
    }
  }
}

template void forward<float>(const Shape&, const float*, const float*, const float*, const float*, float*);
template void forward<double>(const Shape&, const double*, const double*, const double*, const double*, double*);
template void backward<float>(const Shape&, const float*, const float*, const float*, const float*, const float*,
                              float*, float*, float*, float*);
template void backward<double>(const Shape&, const double*, const double*, const double*, const double*, const double*,
                               double*, double*, double*, double*);

}  // namespace power::ops::reference
