#include "kernels/power_attention/reference.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <thread>

namespace power::kernels {
namespace {

double int_power(double x, int n) {
  double y = 1;
  for (int i = 0; i < n; ++i) y *= x;
  return y;
}

double dot(const double* a, const double* b, int n) {
  double sum = 0;
  for (int i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

class HeadReference {
 public:
  HeadReference(const ReferenceInputs& in, const Features& features, ReferenceOutputs& out, int batch, int head)
      : in_(in), features_(features), out_(out), s_(in.shape), batch_(batch), head_(head) {}

  void run(bool backward) {
    std::vector<double> dc(s_.key_len, 0.0);
    for (int i = 0; i < s_.query_len; ++i) {
      for (int r = 0; r < s_.group; ++r) row(i, r, backward, dc);
    }
    if (in_.want_final) final_state(backward, dc);
    if (!backward || in_.log_g.empty()) return;
    double sum = 0;
    for (int t = s_.key_len - 1; t >= 0; --t) {
      sum += dc[t];
      const bool starts_segment = std::isinf(in_.log_g[gate_at(t)]);
      out_.dlog_g[gate_at(t)] = starts_segment ? 0.0 : sum;
      if (starts_segment) sum = 0;
    }
  }

 private:
  int64_t query_at(int i, int r) const {
    return ((int64_t{batch_} * s_.query_len + i) * s_.kv_heads * s_.group + head_ * s_.group + r) * s_.head_dim;
  }
  int64_t key_at(int j) const { return ((int64_t{batch_} * s_.key_len + j) * s_.kv_heads + head_) * s_.head_dim; }
  int64_t state_at(size_t f) const {
    return ((int64_t{batch_} * s_.kv_heads + head_) * features_.tuples.size() + f) * s_.head_dim;
  }
  int64_t key_sum_at(size_t f) const { return state_at(f) / s_.head_dim; }

  // The state after the last key: the initial one and every key, each under the gates after it.
  void final_state(bool backward, std::vector<double>& dc) {
    const int D = s_.head_dim, last = s_.key_len - 1;
    double gate = 0;
    for (int j = last; j >= -1; --j) {
      const double decay = std::exp(gate);
      double carried = 0;  // sum of value * gradient
      for (size_t f = 0; f < features_.tuples.size(); ++f) {
        if (j < 0 && in_.initial_state.empty()) break;
        const double* k = j < 0 ? nullptr : &in_.k[key_at(j)];
        const double phi = j < 0 ? 0 : features_.multiplicity[f] * features_.value(f, k);
        double dphi = 0;
        for (int e = 0; e <= D; ++e) {  // e == D: the key sum
          const int64_t at = e < D ? state_at(f) + e : key_sum_at(f);
          const double v = j < 0 ? 0 : e < D ? in_.v[key_at(j) + e] : 1.0;
          const double own = j < 0 ? (e < D ? in_.initial_state[at] : in_.initial_key_sum[at]) : phi * v;
          (e < D ? out_.final_state : out_.final_key_sum)[at] += decay * own;
          if (!backward) continue;
          const double gradient = e < D ? in_.dfinal_state[at] : in_.dfinal_key_sum[at];
          carried += decay * own * gradient;
          if (j < 0) {
            (e < D ? out_.dinitial_state : out_.dinitial_key_sum)[at] += decay * gradient;
          } else {
            if (e < D) out_.dv[key_at(j) + e] += decay * phi * gradient;
            dphi += decay * features_.multiplicity[f] * v * gradient;
          }
        }
        if (backward && j >= 0) features_.add_gradient(f, k, dphi, &out_.dk[key_at(j)]);
      }
      if (backward) {
        dc[last] += carried;
        if (j >= 0) dc[j] -= carried;
      }
      if (j >= 0 && !in_.log_g.empty()) gate += in_.log_g[gate_at(j)];
    }
  }

  int64_t gate_at(int j) const { return (int64_t{batch_} * s_.key_len + j) * s_.kv_heads + head_; }

  // One query: y_i = n_i normalised, n_i = sum_j w_ij v_j, w_ij = (scale q_i.k_j)^p exp(sum of log_g over j+1..i).
  void row(int i, int r, bool backward, std::vector<double>& dc) {
    const int D = s_.head_dim, last = s_.key_len - s_.query_len + i;
    const double* q = &in_.q[query_at(i, r)];
    std::vector<double> sigma(last + 1), decay(last + 1), n(D, 0.0);
    double gate = 0, l = 0;
    for (int j = last; j >= 0; --j) {
      decay[j] = std::exp(gate);
      sigma[j] = s_.scale * dot(q, &in_.k[key_at(j)], D);
      if (!in_.log_g.empty()) gate += in_.log_g[gate_at(j)];
    }
    for (int j = 0; j <= last; ++j) {
      const double w = int_power(sigma[j], s_.degree) * decay[j];
      l += w;
      for (int e = 0; e < D; ++e) n[e] += w * in_.v[key_at(j) + e];
    }
    const double state_weight = int_power(s_.scale, s_.degree) * std::exp(gate);
    for (size_t f = 0; !in_.initial_state.empty() && f < features_.tuples.size(); ++f) {
      const double w = state_weight * features_.value(f, q);
      l += w * in_.initial_key_sum[key_sum_at(f)];
      for (int e = 0; e < D; ++e) n[e] += w * in_.initial_state[state_at(f) + e];
    }
    double mean = 0, variance = 0, inverse = 1;
    if (s_.normalize == Normalize::kSum) {
      inverse = l == 0 ? 0 : 1 / l;
    } else if (s_.normalize == Normalize::kLayer) {
      for (double x : n) mean += x / D;
      for (double x : n) variance += (x - mean) * (x - mean) / D;
      inverse = variance == 0 ? 0 : 1 / std::sqrt(variance);
    }
    double* y = &out_.y[query_at(i, r)];
    for (int e = 0; e < D; ++e) y[e] = (n[e] - mean) * inverse;
    out_.l[((int64_t{batch_} * s_.kv_heads + head_) * s_.query_len + i) * s_.group + r] = l;
    if (backward) row_gradient(i, r, last, sigma, decay, state_weight, inverse, dc);
  }

  void row_gradient(int i, int r, int last, const std::vector<double>& sigma, const std::vector<double>& decay,
                    double state_weight, double inverse, std::vector<double>& dc) {
    const int D = s_.head_dim;
    const double *q = &in_.q[query_at(i, r)], *dy = &in_.dy[query_at(i, r)], *y = &out_.y[query_at(i, r)];
    const double delta = dot(dy, y, D);
    std::vector<double> dn(dy, dy + D);  // gradient of n; l takes -delta / l for `sum`
    if (s_.normalize == Normalize::kLayer) {
      double mean = 0;
      for (int e = 0; e < D; ++e) mean += dy[e] / D;
      for (int e = 0; e < D; ++e) dn[e] = dy[e] - mean - y[e] * delta / D;
    }
    for (double& x : dn) x *= inverse;
    double dl = s_.normalize == Normalize::kSum ? -delta * inverse : 0.0;
    if (!in_.dl.empty()) dl += in_.dl[((int64_t{batch_} * s_.kv_heads + head_) * s_.query_len + i) * s_.group + r];
    double* dq = &out_.dq[query_at(i, r)];
    for (int j = 0; j <= last; ++j) {
      const double power = int_power(sigma[j], s_.degree - 1) * decay[j], w = power * sigma[j];
      const double dw = dot(dn.data(), &in_.v[key_at(j)], D) + dl, ds = s_.degree * power * dw * s_.scale;
      const double* k = &in_.k[key_at(j)];
      for (int e = 0; e < D; ++e) {
        out_.dv[key_at(j) + e] += w * dn[e];
        dq[e] += ds * k[e];
        out_.dk[key_at(j) + e] += ds * q[e];
      }
      dc[last] += w * dw;
      dc[j] -= w * dw;
    }
    for (size_t f = 0; !in_.initial_state.empty() && f < features_.tuples.size(); ++f) {
      const double phi = state_weight * features_.value(f, q);
      double gradient = in_.initial_key_sum[key_sum_at(f)] * dl;
      for (int e = 0; e < D; ++e) {
        gradient += in_.initial_state[state_at(f) + e] * dn[e];
        out_.dinitial_state[state_at(f) + e] += phi * dn[e];
      }
      out_.dinitial_key_sum[key_sum_at(f)] += phi * dl;
      features_.add_gradient(f, q, state_weight * gradient, dq);
      dc[last] += phi * gradient;
    }
  }

  const ReferenceInputs& in_;
  const Features& features_;
  ReferenceOutputs& out_;
  const AttentionShape& s_;
  int batch_, head_;
};

}  // namespace

Features::Features(int head_dim, int degree) {
  std::vector<int> tuple(degree, 0);
  for (;;) {
    double count = 1;
    int run = 0;
    for (int i = 0; i < degree; ++i) {
      run = i > 0 && tuple[i] == tuple[i - 1] ? run + 1 : 1;
      count *= double(i + 1) / run;
    }
    tuples.push_back(tuple);
    multiplicity.push_back(count);
    int last = degree - 1;
    while (last >= 0 && tuple[last] == head_dim - 1) --last;
    if (last < 0) return;
    std::fill(tuple.begin() + last, tuple.end(), tuple[last] + 1);
  }
}

double Features::value(size_t f, const double* x) const {
  double product = 1;
  for (int i : tuples[f]) product *= x[i];
  return product;
}

void Features::add_gradient(size_t f, const double* x, double weight, double* dx) const {
  for (size_t at = 0; at < tuples[f].size(); ++at) {
    double product = weight;
    for (size_t other = 0; other < tuples[f].size(); ++other) {
      if (other != at) product *= x[tuples[f][other]];
    }
    dx[tuples[f][at]] += product;
  }
}

ReferenceOutputs reference_attention(const ReferenceInputs& in, bool backward, int threads) {
  ReferenceOutputs out;
  out.y.assign(in.q.size(), 0.0);
  out.l.assign(in.q.size() / in.shape.head_dim, 0.0);
  if (backward) {
    out.dq.assign(in.q.size(), 0.0);
    out.dk.assign(in.k.size(), 0.0);
    out.dv.assign(in.v.size(), 0.0);
    out.dlog_g.assign(in.log_g.size(), 0.0);
  }
  const int pairs = in.shape.batch * in.shape.kv_heads;
  const bool states = !in.initial_state.empty() || in.want_final;
  const Features features(states ? in.shape.head_dim : 1, in.shape.degree);
  if (states) {
    const size_t sums = pairs * features.tuples.size();
    if (in.want_final) out.final_state.assign(sums * in.shape.head_dim, 0.0), out.final_key_sum.assign(sums, 0.0);
    if (backward && !in.initial_state.empty()) {
      out.dinitial_state.assign(sums * in.shape.head_dim, 0.0), out.dinitial_key_sum.assign(sums, 0.0);
    }
  }
  std::atomic<int> next{0};
  const auto work = [&] {
    for (int pair = next++; pair < pairs; pair = next++) {
      HeadReference(in, features, out, pair / in.shape.kv_heads, pair % in.shape.kv_heads).run(backward);
    }
  };
  std::vector<std::thread> pool;
  for (int i = 1; i < threads && i < pairs; ++i) pool.emplace_back(work);
  work();
  for (std::thread& thread : pool) thread.join();
  return out;
}

}  // namespace power::kernels
