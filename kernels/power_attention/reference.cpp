#include "kernels/power_attention/reference.h"

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
  HeadReference(const ReferenceInputs& in, ReferenceOutputs& out, int batch, int head)
      : in_(in), out_(out), s_(in.shape), batch_(batch), head_(head) {}

  void run(bool backward) {
    std::vector<double> dc(s_.key_len, 0.0);
    for (int i = 0; i < s_.query_len; ++i) {
      for (int r = 0; r < s_.group; ++r) row(i, r, backward, dc);
    }
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
    if (backward) row_gradient(i, r, last, sigma, decay, inverse, dc);
  }

  void row_gradient(int i, int r, int last, const std::vector<double>& sigma, const std::vector<double>& decay,
                    double inverse, std::vector<double>& dc) {
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
    const double dl = s_.normalize == Normalize::kSum ? -delta * inverse : 0.0;
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
  }

  const ReferenceInputs& in_;
  ReferenceOutputs& out_;
  const AttentionShape& s_;
  int batch_, head_;
};

}  // namespace

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
  std::atomic<int> next{0};
  const auto work = [&] {
    for (int pair = next++; pair < pairs; pair = next++) {
      HeadReference(in, out, pair / in.shape.kv_heads, pair % in.shape.kv_heads).run(backward);
    }
  };
  std::vector<std::thread> pool;
  for (int i = 1; i < threads && i < pairs; ++i) pool.emplace_back(work);
  work();
  for (std::thread& thread : pool) thread.join();
  return out;
}

}  // namespace power::kernels
