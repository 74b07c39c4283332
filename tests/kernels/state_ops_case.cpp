#include "tests/kernels/state_ops_case.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "kernels/power_attention/reference.h"
#include "kernels/power_attention_float32/state_ops.h"
#include "tests/kernels/guarded.h"

namespace power::kernels::testing {
namespace {

using Values = std::vector<double>;

Values random_values(std::mt19937& random, size_t count, double size) {
  std::normal_distribution<double> normal;
  Values x(count);
  for (double& v : x) v = static_cast<float>(size * normal(random));
  return x;
}

std::unique_ptr<Guarded> upload(Device& device, const Values& x) {
  const std::vector<float> values(x.begin(), x.end());
  auto memory = std::make_unique<Guarded>(device, values.size() * 4);
  memory->upload(values.data());
  return memory;
}

// Results, compared as they are read.
class Results {
 public:
  explicit Results(Device& device) : device_(device) {}
  float* of(size_t count) {
    memory_.push_back(std::make_unique<Guarded>(device_, count * 4));
    return memory_.back()->data<float>();
  }
  // The next result, in the order of `of`.
  void check(const char* name, const Values& expected, double tolerance) {
    const std::vector<char> all = memory_[next_++]->download();
    if (!Guarded::guards_intact(all)) result_.failures.push_back(std::string(name) + ": wrote outside its memory");
    std::vector<float> got((all.size() - 2 * Guarded::kGuard) / 4);
    std::memcpy(got.data(), all.data() + Guarded::kGuard, got.size() * 4);
    Comparison comparison;
    comparison.tensor = name;
    comparison.tolerance = tolerance;
    double error = 0, size = 0;
    for (size_t i = 0; i < got.size(); ++i) {
      error += (got[i] - expected[i]) * (got[i] - expected[i]);
      size += expected[i] * expected[i];
    }
    comparison.error = size == 0 ? std::sqrt(error) : std::sqrt(error / size);
    result_.comparisons.push_back(comparison);
  }
  CaseResult take() { return result_; }

 private:
  Device& device_;
  std::vector<std::unique_ptr<Guarded>> memory_;
  size_t next_ = 0;
  CaseResult result_;
};

}  // namespace

std::string StateOpsCase::name() const {
  return "B" + std::to_string(batch) + "_T" + std::to_string(tokens) + "_H" + std::to_string(kv_heads) + "_R" +
         std::to_string(group) + "_D" + std::to_string(head_dim) + "_p" + std::to_string(degree) + "_c" +
         std::to_string(chunk) + "_gates" + std::to_string(static_cast<int>(gates));
}

CaseResult run_state_ops_case(Device& device, const StateOpsCase& c) {
  const int B = c.batch, T = c.tokens, H = c.kv_heads, R = c.group, D = c.head_dim, N = (T + c.chunk - 1) / c.chunk;
  const Features features(D, c.degree);
  const size_t F = features.tuples.size(), keys = size_t(B) * T * H, rows = keys * R, states = size_t(B) * N * H * F;
  const bool gated = c.gates != Gates::kNone;
  std::mt19937 random(7);
  const double size = 1 / std::sqrt(double(D));
  const Values q = random_values(random, rows * D, size), k = random_values(random, keys * D, size);
  const Values v = random_values(random, keys * D, 1), dy = random_values(random, rows * D, 1);
  const Values dl = random_values(random, rows, 1), ds = random_values(random, states * D, 1);
  const Values dz = random_values(random, states, 1);
  Values log_g(gated ? keys : 0);
  for (double& g : log_g) {
    g = static_cast<float>(-0.05 * std::fabs(std::normal_distribution<double>()(random)));
    if (c.gates == Gates::kSegments && random() % 20 == 0) g = -std::numeric_limits<double>::infinity();
  }

  // In doubles, chunk by chunk. The states that are queried are ds and dz.
  Values state(states * D), key_sum(states), dk(keys * D), dv(keys * D), y(rows * D), l(rows), dq(rows * D);
  Values dstate(states * D), dkey_sum(states), dlog_update(keys), dlog_query(keys);
  const double scale_power = std::pow(c.scale, c.degree);
  for (int b = 0; b < B; ++b) {
    for (int h = 0; h < H; ++h) {
      const auto key_at = [&](int t) { return (size_t(b) * T + t) * H + h; };
      for (int n = 0; n < N; ++n) {
        const int first = n * c.chunk, end = std::min(T, first + c.chunk);
        const size_t at = ((size_t(b) * N + n) * H + h) * F;
        double after = 0, before = 0;  // gates
        for (int t = end - 1; t >= first; --t) {
          const double* x = &k[key_at(t) * D];
          const double decay = std::exp(after);
          double weight = 0;  // of this key in the gradient of the gates after it
          for (size_t f = 0; f < F; ++f) {
            const double phi = decay * features.multiplicity[f] * features.value(f, x);
            double dphi = dz[at + f];
            key_sum[at + f] += phi;
            for (int e = 0; e < D; ++e) {
              const double value = v[key_at(t) * D + e], gradient = ds[(at + f) * D + e];
              state[(at + f) * D + e] += phi * value;
              dv[key_at(t) * D + e] += phi * gradient;
              dphi += value * gradient;
            }
            weight += phi * dphi;
            features.add_gradient(f, x, decay * features.multiplicity[f] * dphi, &dk[key_at(t) * D]);
          }
          for (int u = t + 1; gated && u < end; ++u) dlog_update[key_at(u)] += weight;
          if (gated) after += log_g[key_at(t)];
        }
        for (int t = first; t < end; ++t) {
          if (gated) before += log_g[key_at(t)];
          for (int r = 0; r < R; ++r) {
            const size_t row = key_at(t) * R + r;  // (B,T,H,R)
            const double* x = &q[row * D];
            double weight = 0;
            for (size_t f = 0; f < F; ++f) {
              const double factor = scale_power * std::exp(before), phi = factor * features.value(f, x);
              double dphi = dl[row] * dz[at + f];
              l[row] += phi * dz[at + f];
              dkey_sum[at + f] += phi * dl[row];
              for (int e = 0; e < D; ++e) {
                const double s = ds[(at + f) * D + e];
                y[row * D + e] += phi * s;
                dstate[(at + f) * D + e] += phi * dy[row * D + e];
                dphi += s * dy[row * D + e];
              }
              weight += features.value(f, x) * dphi * factor;
              features.add_gradient(f, x, factor * dphi, &dq[row * D]);
            }
            for (int u = first; gated && u <= t; ++u) dlog_query[key_at(u)] += weight;
          }
        }
      }
    }
  }
  for (size_t i = 0; i < log_g.size(); ++i) {
    if (std::isinf(log_g[i])) dlog_update[i] = dlog_query[i] = 0;
  }
  // The kernels' order of rows is (B,H,T,R).
  const auto by_head = [&](const Values& x, double factor) {
    Values out(x.size());
    for (size_t i = 0; i < x.size(); ++i) {
      const size_t r = i % R, h = i / R % H, t = i / R / H % T, b = i / R / H / T;
      out[((b * H + h) * T + t) * R + r] = factor * x[i];
    }
    return out;
  };

  float32::StateShape shape;
  shape.batch = B, shape.tokens = T, shape.kv_heads = H, shape.group = R;
  shape.head_dim = D, shape.degree = c.degree, shape.chunk = c.chunk;
  const auto q_in = upload(device, q), k_in = upload(device, k), v_in = upload(device, v), dy_in = upload(device, dy);
  const auto ds_in = upload(device, ds), dz_in = upload(device, dz), log_g_in = upload(device, log_g);
  const auto minus_dl_in = upload(device, by_head(dl, -1));
  const size_t bytes = float32::state_workspace_bytes(shape, gated);
  Guarded workspace(device, bytes);
  const std::vector<char> zeros(bytes, 0);
  const auto key_view = [&](const void* data) { return TensorView{data, int64_t(T) * H * D, H * D, D}; };
  const auto row_view = [&](const void* data) { return TensorView{data, int64_t(T) * H * R * D, H * R * D, D}; };
  GateView gates;
  if (gated) gates = {log_g_in->data<float>(), int64_t(T) * H, H, 1};
  Results results(device);

  float32::UpdateStateParams update;
  update.shape = shape, update.log_g = gates;
  update.k = key_view(k_in->data()), update.v = key_view(v_in->data());
  update.sums = {results.of(states * D), results.of(states)};
  update.workspace = workspace.data();
  workspace.upload(zeros.data());
  float32::update_state(update);

  float32::UpdateStateBackwardParams update_backward;
  update_backward.shape = shape, update_backward.log_g = gates;
  update_backward.k = update.k, update_backward.v = update.v;
  update_backward.dsums = {ds_in->data<float>(), dz_in->data<float>()};
  update_backward.dk = key_view(results.of(keys * D)), update_backward.dv = key_view(results.of(keys * D));
  if (gated) update_backward.dlog_g = results.of(keys);
  update_backward.workspace = workspace.data();
  workspace.upload(zeros.data());
  float32::update_state_backward(update_backward);

  float32::QueryStateParams query;
  query.shape = shape, query.scale = c.scale, query.log_g = gates;
  query.q = row_view(q_in->data());
  query.states = update_backward.dsums;
  query.y = row_view(results.of(rows * D)), query.l = results.of(rows);
  query.workspace = workspace.data();
  workspace.upload(zeros.data());
  float32::query_state(query);

  float32::QueryStateBackwardParams query_backward;
  query_backward.shape = shape, query_backward.scale = c.scale, query_backward.log_g = gates;
  query_backward.q = query.q, query_backward.states = query.states;
  query_backward.dy = row_view(dy_in->data());
  query_backward.minus_dl = minus_dl_in->data<float>();
  query_backward.dq = row_view(results.of(rows * D));
  query_backward.dstates = {results.of(states * D), results.of(states)};
  if (gated) query_backward.dlog_g = results.of(keys);
  query_backward.workspace = workspace.data();
  workspace.upload(zeros.data());
  float32::query_state_backward(query_backward);

  results.check("state", state, 2e-6);
  results.check("key_sum", key_sum, 2e-6);
  results.check("dk", dk, 2e-5);
  results.check("dv", dv, 2e-5);
  if (gated) results.check("dlog_g of update", dlog_update, 2e-5);
  results.check("y", y, 2e-6);
  results.check("l", by_head(l, 1), 2e-6);
  results.check("dq", dq, 2e-5);
  results.check("dstate", dstate, 2e-5);
  results.check("dkey_sum", dkey_sum, 2e-5);
  if (gated) results.check("dlog_g of query", dlog_query, 2e-5);
  CaseResult result = results.take();
  if (!Guarded::guards_intact(workspace.download())) result.failures.push_back("workspace: wrote outside its memory");
  return result;
}

CaseResult run_discounted_sum_case(Device& device, int batch, int chunks, int heads, int elements, bool full) {
  std::mt19937 random(3);
  const size_t one = size_t(batch) * heads, all = one * chunks;
  const Values x = random_values(random, all * elements, 1), initial = random_values(random, one * elements, 1);
  const Values dbefore = random_values(random, all * elements, 1), dlast = random_values(random, one * elements, 1);
  Values decay = random_values(random, all, 1);
  for (double& d : decay) d = static_cast<float>(std::exp(-d * d));
  Values before(all * elements), last(one * elements), dx(all * elements), dinitial(one * elements), ddecay(all);
  for (size_t i = 0; i < one; ++i) {
    const size_t b = i / heads, h = i % heads;
    const auto chunk_at = [&](int n) { return (b * chunks + n) * heads + h; };
    for (int e = 0; e < elements; ++e) {
      double run = full ? initial[i * elements + e] : 0;
      for (int n = 0; n < chunks; ++n) {
        before[chunk_at(n) * elements + e] = run;
        run = run * (full ? decay[chunk_at(n)] : 1) + x[chunk_at(n) * elements + e];
      }
      last[i * elements + e] = run;
      run = full ? dlast[i * elements + e] : 0;
      for (int n = chunks - 1; n >= 0; --n) {
        dx[chunk_at(n) * elements + e] = run;
        ddecay[chunk_at(n)] += before[chunk_at(n) * elements + e] * run;
        run = run * (full ? decay[chunk_at(n)] : 1) + dbefore[chunk_at(n) * elements + e];
      }
      dinitial[i * elements + e] = run;
    }
  }

  const auto x_in = upload(device, x), initial_in = upload(device, initial), dbefore_in = upload(device, dbefore);
  const auto dlast_in = upload(device, dlast), decay_in = upload(device, decay), before_in = upload(device, before);
  Results results(device);
  float32::DiscountedSum sum;
  sum.batch = batch, sum.chunks = chunks, sum.heads = heads, sum.elements = elements;
  sum.x = x_in->data<float>();
  if (full) sum.decay = decay_in->data<float>(), sum.initial = initial_in->data<float>();
  sum.before = results.of(before.size()), sum.last = results.of(last.size());
  float32::discounted_sum(sum);
  float32::DiscountedSumBackward backward;
  backward.batch = batch, backward.chunks = chunks, backward.heads = heads, backward.elements = elements;
  backward.before = before_in->data<float>(), backward.dbefore = dbefore_in->data<float>();
  if (full) backward.decay = sum.decay, backward.dlast = dlast_in->data<float>();
  backward.dx = results.of(dx.size()), backward.dinitial = results.of(dinitial.size());
  const size_t parts = float32::discounted_sum_parts(elements);
  Guarded part_sums(device, all * parts * 4);
  if (full) backward.ddecay = part_sums.data<float>();
  float32::discounted_sum_backward(backward);
  results.check("before", before, 2e-6);
  results.check("last", last, 2e-6);
  results.check("dx", dx, 2e-6);
  results.check("dinitial", dinitial, 2e-6);
  CaseResult result = results.take();
  const std::vector<char> memory = part_sums.download();
  if (!Guarded::guards_intact(memory)) result.failures.push_back("ddecay: wrote outside its memory");
  for (size_t i = 0; full && i < all; ++i) {
    double got = 0;
    for (size_t part = 0; part < parts; ++part) {
      float value;
      std::memcpy(&value, memory.data() + Guarded::kGuard + 4 * (i * parts + part), 4);
      got += value;
    }
    if (!(std::fabs(got - ddecay[i]) <= 1e-5 * (1 + std::fabs(ddecay[i])))) {
      result.failures.push_back("ddecay " + std::to_string(i) + ": " + std::to_string(got) + " for " +
                                std::to_string(ddecay[i]));
    }
  }
  return result;
}

}  // namespace power::kernels::testing
