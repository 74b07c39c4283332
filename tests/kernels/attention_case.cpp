#include "tests/kernels/attention_case.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <sstream>

#include "kernels/power_attention/reference.h"
#include "tests/kernels/guarded.h"

namespace power::kernels::testing {
namespace {

// Values of a tensor (B, T, heads, width) in doubles, and how to cut it into parts.
struct Values {
  std::string name;
  const std::vector<double>& reference;
  std::vector<double> got;
  int batch, len, heads, width;
  double tolerance;
};

double norm(const std::vector<double>& x) {
  double sum = 0;
  for (double v : x) sum += v * v;
  return std::sqrt(sum);
}

Comparison compare(const Values& values, const std::vector<double>& dy) {
  Comparison result;
  result.tensor = values.name;
  result.tolerance = values.tolerance;
  const double dy_norm = norm(dy), whole = norm(values.reference);
  const double count = static_cast<double>(values.reference.size());
  // Gradients can be exactly or nearly zero (one token, closed gates): then the error is held against dY.
  const auto relative = [&](double error2, double reference2, double elements) {
    const double share = std::sqrt(elements / count), error = std::sqrt(error2), reference = std::sqrt(reference2);
    if (reference < 1e-6 * dy_norm * share) return error / (dy_norm * share);
    return error / reference;
  };
  double total = 0;
  for (int b = 0; b < values.batch; ++b) {
    for (int h = 0; h < values.heads; ++h) {
      double head_error = 0, head_reference = 0;
      // Tiles of 64 tokens; a short rest belongs to the tile before it.
      for (int t0 = 0, t1; t0 < values.len; t0 = t1) {
        double error = 0, reference = 0;
        t1 = values.len - t0 < 96 ? values.len : t0 + 64;
        for (int t = t0; t < t1; ++t) {
          for (int e = 0; e < values.width; ++e) {
            const size_t i = ((size_t(b) * values.len + t) * values.heads + h) * values.width + e;
            const double d = values.got[i] - values.reference[i];
            error += d * d;
            reference += values.reference[i] * values.reference[i];
          }
        }
        head_error += error;
        head_reference += reference;
        // A tile far below the tensor's usual size is held against a tenth of that size: its own is rounding noise. A
        // running sum's error does not shrink where the sum crosses zero: there it is half.
        const double elements = double(t1 - t0) * values.width, usual = whole * std::sqrt(elements / count);
        const double floor = (values.width == 1 && values.name == "dlog_g" ? 0.5 : 0.1) * usual;
        const double part = relative(error, std::max(reference, floor * floor), elements);
        if (!(part <= result.worst_part)) {
          result.worst_part = part;
          result.worst_where = "b" + std::to_string(b) + " h" + std::to_string(h) + " t" + std::to_string(t0);
        }
      }
      const double part = relative(head_error, head_reference, double(values.len) * values.width);
      if (!(part <= result.worst_part)) {
        result.worst_part = part;
        result.worst_where = "b" + std::to_string(b) + " h" + std::to_string(h);
      }
      total += head_error;
    }
  }
  result.error = relative(total, whole * whole, count);
  return result;
}

std::vector<double> make_gates(const AttentionCase& c, std::mt19937& random) {
  if (c.gates == Gates::kNone) return {};
  std::normal_distribution<double> normal;
  std::vector<double> log_g(size_t(c.batch) * c.key_len * c.kv_heads);
  for (size_t i = 0; i < log_g.size(); ++i) {
    const double x = normal(random);
    double gate = -std::log1p(std::exp(-(6.906768 + x)));
    if (c.gates == Gates::kStrong) gate = -2.0 * std::fabs(x);
    if (c.gates == Gates::kClosed) gate = -60.0 - 5.0 * std::fabs(x);
    const int t = static_cast<int>(i / c.kv_heads) % c.key_len;
    const bool start = t % 64 == 0 ? random() % 3 == 0 : random() % 50 == 0;  // at tile edges more often
    if (c.gates == Gates::kSegments && start) gate = -std::numeric_limits<double>::infinity();
    log_g[i] = static_cast<float>(gate);
  }
  return log_g;
}

class CaseRun {
 public:
  CaseRun(Device& device, const AttentionCase& c) : device_(device), c_(c) {
    shape_.dtype = c.dtype;
    shape_.batch = c.batch;
    shape_.query_len = c.query_len;
    shape_.key_len = c.key_len;
    shape_.kv_heads = c.kv_heads;
    shape_.group = c.group;
    shape_.head_dim = c.head_dim;
    shape_.degree = c.degree;
    shape_.scale = c.scale != 0 ? c.scale : 1 / std::sqrt(double(c.head_dim));
    shape_.normalize = c.normalize;
    shape_.chunk = c.chunk;
    std::mt19937 random(c.seed);
    std::normal_distribution<double> normal;
    inputs_.shape = shape_;
    const auto fill = [&](std::vector<double>& x, size_t count, double size) {
      x.resize(count);
      for (double& v : x) {
        const float value = static_cast<float>(size * normal(random));
        v = wide() ? value : from_bf16(to_bf16(value));
      }
    };
    const double size = 1 / std::sqrt(double(c.head_dim));
    fill(inputs_.q, query_elements(), size * c.magnitude);
    fill(inputs_.k, key_elements(), size * c.magnitude);
    fill(inputs_.v, key_elements(), size);
    fill(inputs_.dy, query_elements(), 1.0);
    inputs_.log_g = make_gates(c, random);
    if (c.dl) {
      inputs_.dl.resize(query_elements() / c.head_dim);
      for (double& x : inputs_.dl) x = static_cast<float>(normal(random));
    }
    if (c.initial) add_earlier_keys(random, size);
    inputs_.want_final = c.final;
    if (c.final) {  // of a size at which keys weigh as much through the state as through y
      const double usual = 1 / std::sqrt(double(c.key_len));
      inputs_.dfinal_state.resize(state_elements());
      inputs_.dfinal_key_sum.resize(state_elements() / c.head_dim);
      for (double& x : inputs_.dfinal_state) x = static_cast<float>(usual * normal(random));
      for (double& x : inputs_.dfinal_key_sum) x = static_cast<float>(usual * normal(random));
    }
  }

  CaseResult run(int threads) {
    const ReferenceOutputs reference = reference_attention(inputs_, true, threads);
    run_kernels();
    CaseResult result;
    const auto first = outputs();
    run_kernels();
    const auto second = outputs();
    for (size_t i = 0; i < first.size(); ++i) {
      if (!Guarded::guards_intact(second[i].second))
        result.failures.push_back(first[i].first + ": wrote outside its memory");
      if (first[i].second != second[i].second) result.failures.push_back(first[i].first + ": differs between two runs");
    }
    const int query_heads = c_.kv_heads * c_.group;
    const auto check = [&](const char* name, const std::vector<double>& expected, const std::vector<double>& got,
                           int len, int heads, int width, double tolerance) {
      // A part is a (batch, head) and 64 of `len`.
      result.comparisons.push_back(compare({name, expected, got, c_.batch, len, heads, width, tolerance}, inputs_.dy));
    };
    // `layer` of a high degree: a few weights decide, dY' is nearly orthogonal to their values, its rounding is not.
    const bool layer = c_.normalize == Normalize::kLayer;
    const double loose = layer && c_.degree > 2 ? 2.0 : 1.0;
    const double forward = wide() ? 2e-6 : 0.0058, backward = wide() ? 2e-5 : 0.008 * loose;
    const double gates = wide() ? 2e-5 : layer ? 0.024 : 0.012;
    check("y", reference.y, values_of(*y_), c_.query_len, query_heads, c_.head_dim, forward);
    check("dq", reference.dq, values_of(*dq_), c_.query_len, query_heads, c_.head_dim, backward);
    check("dk", reference.dk, values_of(*dk_), c_.key_len, c_.kv_heads, c_.head_dim, backward);
    check("dv", reference.dv, values_of(*dv_), c_.key_len, c_.kv_heads, c_.head_dim, backward);
    if (c_.gates != Gates::kNone) {
      check("dlog_g", reference.dlog_g, float_values(*dlog_g_), c_.key_len, c_.kv_heads, 1, gates);
    }
    const int heads = c_.kv_heads, features = static_cast<int>(state_features());
    if (c_.final) {
      check("final_state", reference.final_state, float_values(*final_state_), heads, 1, features * c_.head_dim,
            forward);
      check("final_key_sum", reference.final_key_sum, float_values(*final_key_sum_), heads, 1, features, forward);
    }
    if (c_.initial) {
      check("dinitial_state", reference.dinitial_state, float_values(*dinitial_state_), heads, 1,
            features * c_.head_dim, backward);
      check("dinitial_key_sum", reference.dinitial_key_sum, float_values(*dinitial_key_sum_), heads, 1, features,
            wide() ? 2e-5 : 0.012);
    }
    if (c_.degree % 2 == 0) {  // signed sums of odd degrees vanish: no relative bound
      std::vector<double> l(reference.l.size()), expected(l.size());
      const std::vector<double> got = float_values(*l_);
      // (B,H,TQ,R) to (B,TQ,H*R)
      for (size_t i = 0; i < l.size(); ++i) {
        const size_t r = i % c_.group, t = i / c_.group % c_.query_len, h = i / c_.group / c_.query_len % c_.kv_heads;
        const size_t b = i / c_.group / c_.query_len / c_.kv_heads;
        const size_t to = ((b * c_.query_len + t) * c_.kv_heads + h) * c_.group + r;
        l[to] = got[i];
        expected[to] = reference.l[i];
      }
      check("l", expected, l, c_.query_len, query_heads, 1, forward);
    }
    return result;
  }

 private:
  size_t query_elements() const { return size_t(c_.batch) * c_.query_len * c_.kv_heads * c_.group * c_.head_dim; }
  size_t key_elements() const { return size_t(c_.batch) * c_.key_len * c_.kv_heads * c_.head_dim; }

  bool wide() const { return c_.dtype == DataType::kFloat32; }
  size_t element_bytes() const { return wide() ? 4 : 2; }

  size_t state_features() const {  // C(D+p-1, p)
    size_t count = 1;
    for (int i = 0; i < c_.degree; ++i) count = count * (c_.head_dim + i) / (i + 1);
    return count;
  }
  size_t state_elements() const { return size_t(c_.batch) * c_.kv_heads * state_features() * c_.head_dim; }

  // An initial state is the sum over keys before the first one.
  void add_earlier_keys(std::mt19937& random, double size) {
    std::normal_distribution<double> normal;
    const int D = c_.head_dim;
    const Features features(D, c_.degree);
    inputs_.initial_state.assign(state_elements(), 0.0);
    inputs_.initial_key_sum.assign(state_elements() / D, 0.0);
    for (int head = 0; head < c_.batch * c_.kv_heads; ++head) {
      for (int key = 0; key < 40; ++key) {
        std::vector<double> k(D), v(D);
        for (double& x : k) x = size * c_.magnitude * normal(random);
        for (double& x : v) x = size * normal(random);
        for (size_t f = 0; f < state_features(); ++f) {
          const double phi = features.multiplicity[f] * features.value(f, k.data());
          const size_t at = head * state_features() + f;
          inputs_.initial_key_sum[at] += phi;
          for (int e = 0; e < D; ++e) inputs_.initial_state[at * D + e] += phi * v[e];
        }
      }
    }
    for (auto* sums : {&inputs_.initial_state, &inputs_.initial_key_sum}) {
      for (double& x : *sums) x = static_cast<float>(x);
    }
  }

  std::unique_ptr<Guarded> upload_floats(const std::vector<double>& x) {
    const std::vector<float> values(x.begin(), x.end());
    auto memory = std::make_unique<Guarded>(device_, values.size() * 4);
    memory->upload(values.data());
    return memory;
  }

  TensorView view(const void* data, int len, int heads, int64_t token_elements) const {
    return {data, token_elements * len, token_elements, heads > 0 ? c_.head_dim : 0};
  }

  std::unique_ptr<Guarded> upload(const std::vector<double>& x) {
    if (wide()) return upload_floats(x);
    std::vector<uint16_t> values(x.size());
    for (size_t i = 0; i < x.size(); ++i) values[i] = to_bf16(static_cast<float>(x[i]));
    auto memory = std::make_unique<Guarded>(device_, values.size() * 2);
    memory->upload(values.data());
    return memory;
  }

  void run_kernels() {
    const int query_heads = c_.kv_heads * c_.group, heads = c_.kv_heads, D = c_.head_dim;
    const bool gated = c_.gates != Gates::kNone;
    if (!y_) {
      if (c_.fused_qkv) {
        const size_t row = size_t(query_heads + 2 * heads) * D;
        std::vector<double> fused(size_t(c_.batch) * c_.key_len * row);
        for (size_t t = 0; t < size_t(c_.batch) * c_.key_len; ++t) {
          std::copy_n(&inputs_.q[t * query_heads * D], query_heads * D, &fused[t * row]);
          std::copy_n(&inputs_.k[t * heads * D], heads * D, &fused[t * row + query_heads * D]);
          std::copy_n(&inputs_.v[t * heads * D], heads * D, &fused[t * row + (query_heads + heads) * D]);
        }
        q_ = upload(fused);
      } else {
        q_ = upload(inputs_.q);
        k_ = upload(inputs_.k);
        v_ = upload(inputs_.v);
      }
      dy_ = upload(inputs_.dy);
      if (c_.dl) dl_ = upload_floats(inputs_.dl);
      if (gated) {
        log_g_ = upload_floats(inputs_.log_g);
        dlog_g_ = std::make_unique<Guarded>(device_, inputs_.log_g.size() * 4);
      }
      y_ = std::make_unique<Guarded>(device_, query_elements() * element_bytes());
      dq_ = std::make_unique<Guarded>(device_, query_elements() * element_bytes());
      dk_ = std::make_unique<Guarded>(device_, key_elements() * element_bytes());
      dv_ = std::make_unique<Guarded>(device_, key_elements() * element_bytes());
      stats_ = std::make_unique<Guarded>(device_, row_stats_floats(shape_) * 4);
      l_ = std::make_unique<Guarded>(device_, query_elements() / D * 4);
      const size_t state_bytes = state_elements() * 4, key_bytes = state_bytes / D;
      if (c_.initial) {
        initial_state_ = upload_floats(inputs_.initial_state);
        initial_key_sum_ = upload_floats(inputs_.initial_key_sum);
        dinitial_state_ = std::make_unique<Guarded>(device_, state_bytes);
        dinitial_key_sum_ = std::make_unique<Guarded>(device_, key_bytes);
      }
      if (c_.final) {
        dfinal_state_ = upload_floats(inputs_.dfinal_state);
        dfinal_key_sum_ = upload_floats(inputs_.dfinal_key_sum);
        final_state_ = std::make_unique<Guarded>(device_, state_bytes);
        final_key_sum_ = std::make_unique<Guarded>(device_, key_bytes);
      }
      const size_t saved = saved_states_bytes(shape_, c_.initial);
      if (c_.saved && saved > 0) states_ = std::make_unique<Guarded>(device_, saved);
    }
    ForwardParams forward;
    forward.shape = shape_;
    const int64_t fused_row = int64_t(query_heads + 2 * heads) * D;
    if (c_.fused_qkv) {
      const char* base = q_->data<char>();
      forward.q = view(base, c_.key_len, query_heads, fused_row);
      forward.k = view(base + query_heads * D * element_bytes(), c_.key_len, heads, fused_row);
      forward.v = view(base + (query_heads + heads) * D * element_bytes(), c_.key_len, heads, fused_row);
    } else {
      forward.q = view(q_->data(), c_.query_len, query_heads, query_heads * D);
      forward.k = view(k_->data(), c_.key_len, heads, heads * D);
      forward.v = view(v_->data(), c_.key_len, heads, heads * D);
    }
    if (gated) forward.log_g = {log_g_->data<float>(), int64_t(c_.key_len) * heads, heads, 1};
    if (c_.initial) forward.initial = {initial_state_->data<float>(), initial_key_sum_->data<float>()};
    if (c_.final) forward.final = {final_state_->data<float>(), final_key_sum_->data<float>()};
    if (states_) forward.states = states_->data();
    forward.y = view(y_->data(), c_.query_len, query_heads, query_heads * D);
    forward.row_stats = stats_->data<float>();
    forward.l = l_->data<float>();

    BackwardParams backward;
    backward.shape = shape_;
    backward.q = forward.q;
    backward.k = forward.k;
    backward.v = forward.v;
    backward.log_g = forward.log_g;
    backward.y = forward.y;
    backward.dy = view(dy_->data(), c_.query_len, query_heads, query_heads * D);
    backward.row_stats = forward.row_stats;
    if (c_.dl) backward.dl = dl_->data<float>(), backward.l = forward.l;
    backward.dq = view(dq_->data(), c_.query_len, query_heads, query_heads * D);
    backward.dk = view(dk_->data(), c_.key_len, heads, heads * D);
    backward.dv = view(dv_->data(), c_.key_len, heads, heads * D);
    if (gated) {
      backward.dlog_g = dlog_g_->data<float>();
      backward.dlog_g_batch = int64_t(c_.key_len) * heads;
      backward.dlog_g_token = heads;
      backward.dlog_g_head = 1;
    }
    backward.initial = forward.initial;
    backward.states = forward.states;
    if (c_.initial) backward.dinitial = {dinitial_state_->data<float>(), dinitial_key_sum_->data<float>()};
    if (c_.final) backward.dfinal = {dfinal_state_->data<float>(), dfinal_key_sum_->data<float>()};

    if (!forward_workspace_) {
      forward_workspace_ = std::make_unique<Guarded>(device_, forward_workspace_bytes(forward));
      backward_workspace_ = std::make_unique<Guarded>(device_, backward_workspace_bytes(backward));
    }
    for (const auto& [name, memory] : written()) memory->reset();
    forward.workspace = forward_workspace_->data();
    backward.workspace = backward_workspace_->data();
    power_attention_forward(forward);
    power_attention_backward(backward);
  }

  std::vector<std::pair<std::string, Guarded*>> written() const {
    std::vector<std::pair<std::string, Guarded*>> all;
    const auto add = [&](const char* name, const std::unique_ptr<Guarded>& memory) {
      if (memory) all.emplace_back(name, memory.get());
    };
    add("y", y_), add("row_stats", stats_), add("l", l_), add("dq", dq_), add("dk", dk_), add("dv", dv_);
    add("dlog_g", dlog_g_), add("states", states_), add("final_state", final_state_);
    add("final_key_sum", final_key_sum_), add("dinitial_state", dinitial_state_);
    add("dinitial_key_sum", dinitial_key_sum_), add("workspace", forward_workspace_);
    add("workspace", backward_workspace_);
    return all;
  }

  std::vector<std::pair<std::string, std::vector<char>>> outputs() const {
    std::vector<std::pair<std::string, std::vector<char>>> all;
    for (const auto& [name, memory] : written()) all.emplace_back(name, memory->download());
    return all;
  }

  // Of a tensor of the case's dtype.
  std::vector<double> values_of(const Guarded& memory) const {
    if (wide()) return float_values(memory);
    const std::vector<char> all = memory.download();
    std::vector<double> values((all.size() - 2 * Guarded::kGuard) / 2);
    for (size_t i = 0; i < values.size(); ++i) {
      uint16_t bits;
      std::memcpy(&bits, all.data() + Guarded::kGuard + 2 * i, 2);
      values[i] = from_bf16(bits);
    }
    return values;
  }
  static std::vector<double> float_values(const Guarded& memory) {
    const std::vector<char> all = memory.download();
    std::vector<float> values((all.size() - 2 * Guarded::kGuard) / 4);
    std::memcpy(values.data(), all.data() + Guarded::kGuard, values.size() * 4);
    return {values.begin(), values.end()};
  }

  Device& device_;
  AttentionCase c_;
  AttentionShape shape_;
  ReferenceInputs inputs_;
  std::unique_ptr<Guarded> q_, k_, v_, log_g_, dy_, dl_, y_, stats_, l_, dq_, dk_, dv_, dlog_g_, forward_workspace_,
      backward_workspace_, states_, initial_state_, initial_key_sum_, final_state_, final_key_sum_, dinitial_state_,
      dinitial_key_sum_, dfinal_state_, dfinal_key_sum_;
};

}  // namespace

std::string AttentionCase::name() const {
  static const char* const kGates[] = {"ungated", "mild", "strong", "closed", "segments"};
  static const char* const kNormalize[] = {"sum", "layer", "none"};
  std::ostringstream out;
  out << "B" << batch << "_TQ" << query_len << "_TK" << key_len << "_H" << kv_heads << "_R" << group << "_D" << head_dim
      << "_p" << degree << "_" << kGates[static_cast<int>(gates)] << "_" << kNormalize[static_cast<int>(normalize)];
  if (dtype == DataType::kFloat32) out << "_fp32";
  if (scale != 0) out << "_scale" << scale;
  if (magnitude != 1) out << "_x" << magnitude;
  if (fused_qkv) out << "_fused";
  if (chunk != 0) out << "_c" << chunk;
  if (initial) out << "_initial";
  if (final) out << "_final";
  if (saved) out << "_saved";
  if (dl) out << "_dl";
  if (seed != 1) out << "_s" << seed;
  return out.str();
}

bool CaseResult::ok() const {
  for (const Comparison& c : comparisons) {
    if (!c.ok()) return false;
  }
  return failures.empty();
}

std::string CaseResult::text() const {
  std::ostringstream out;
  out.precision(2);
  for (const Comparison& c : comparisons) {
    out << (c.ok() ? " " : " FAIL ") << c.tensor << " " << c.error << "/" << c.tolerance << " part " << c.worst_part
        << " (" << c.worst_where << ")";
  }
  for (const std::string& failure : failures) out << " FAIL " << failure;
  return out.str();
}

CaseResult run_attention_case(Device& device, const AttentionCase& c, int threads) {
  return CaseRun(device, c).run(threads);
}

}  // namespace power::kernels::testing
