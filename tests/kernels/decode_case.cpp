#include "tests/kernels/decode_case.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <random>
#include <sstream>

#include "kernels/power_attention/reference.h"
#include "tests/kernels/guarded.h"

namespace power::kernels::testing {
namespace {

// Errors relative to the reference, whole and by parts: `parts` equal slices of consecutive elements. A part far below
// the usual size is held against a tenth of that.
Comparison compare(const char* name, const std::vector<double>& expected, const std::vector<double>& got, size_t parts,
                   double tolerance) {
  Comparison result;
  result.tensor = name;
  result.tolerance = tolerance;
  double whole = 0, error = 0;
  for (double x : expected) whole += x * x;
  const size_t length = expected.size() / parts;
  for (size_t part = 0; part < parts; ++part) {
    double part_error = 0, part_norm = 0;
    for (size_t i = part * length; i < (part + 1) * length; ++i) {
      part_error += (got[i] - expected[i]) * (got[i] - expected[i]);
      part_norm += expected[i] * expected[i];
    }
    error += part_error;
    const double relative = std::sqrt(part_error / std::max({part_norm, 0.01 * whole / double(parts), 1e-300}));
    if (!(relative <= result.worst_part)) {
      result.worst_part = relative;
      result.worst_where = "part " + std::to_string(part) + " of " + std::to_string(parts);
    }
  }
  result.error = std::sqrt(error / std::max(whole, 1e-300));
  return result;
}

class DecodeRun {
 public:
  DecodeRun(Device& device, const DecodeCase& c) : device_(device), c_(c) {
    shape_.batch = c.batch;
    shape_.kv_heads = c.kv_heads;
    shape_.group = c.group;
    shape_.head_dim = c.head_dim;
    shape_.degree = c.degree;
    shape_.window = c.window;
    AttentionShape& all = inputs_.shape;
    all.batch = c.batch;
    all.query_len = all.key_len = c.tokens;
    all.kv_heads = c.kv_heads;
    all.group = c.group;
    all.head_dim = c.head_dim;
    all.degree = c.degree;
    all.scale = c.scale != 0 ? c.scale : 1 / std::sqrt(double(c.head_dim));
    all.normalize = c.normalize;
    fill(inputs_.q, query_width(), c.magnitude);
    fill(inputs_.k, key_width(), c.magnitude);
    fill(inputs_.v, key_width(), 1.0);
    if (c.gates != Gates::kNone) fill_gates();
    // A query of zeros sees nothing: y = 0.
    for (int b = 0; b < c.batch; ++b) {
      const size_t row = (size_t(b) * c.tokens + c.tokens / 2) * query_width();
      std::fill_n(&inputs_.q[row], c.head_dim, 0.0);
    }
  }

  DecodeResult run(const DecodeStep& step, int threads) {
    DecodeResult result;
    result.bits = decode(step, result);
    DecodeResult again;
    if (decode(step, again) != result.bits) result.failures.push_back("y differs between two runs");
    const ReferenceOutputs reference = reference_attention(inputs_, false, threads);
    std::vector<double> y(result.bits.size());
    for (size_t i = 0; i < y.size(); ++i) y[i] = from_bf16(result.bits[i]);
    // Parts of one query each would hide nothing; short sums of odd degrees vanish, so sequences are the parts.
    result.y = compare("y", reference.y, y, size_t(c_.batch) * (c_.degree == 2 ? c_.tokens : 1), 0.0058);
    return result;
  }

 private:
  size_t query_width() const { return size_t(c_.kv_heads) * c_.group * c_.head_dim; }
  size_t key_width() const { return size_t(c_.kv_heads) * c_.head_dim; }
  size_t fused_width() const { return query_width() + 2 * key_width(); }

  std::mt19937 random_of(int sequence, unsigned what) const {
    return std::mt19937(c_.seed * 7919 + unsigned(sequence) * 31 + what + (sequence == c_.changed ? 100000 : 0));
  }

  void fill(std::vector<double>& x, size_t width, double size) {
    const unsigned what = fills_++;
    for (int b = 0; b < c_.batch; ++b) {
      std::mt19937 random = random_of(b, what);
      std::normal_distribution<double> normal;
      for (size_t i = 0; i < c_.tokens * width; ++i) {
        x.push_back(from_bf16(to_bf16(static_cast<float>(size * normal(random) / std::sqrt(double(c_.head_dim))))));
      }
    }
  }

  void fill_gates() {
    for (int b = 0; b < c_.batch; ++b) {
      std::mt19937 random = random_of(b, 10);
      std::normal_distribution<double> normal;
      for (int i = 0; i < c_.tokens * c_.kv_heads; ++i) {
        const double x = normal(random);
        double gate = -std::log1p(std::exp(-(6.906768 + x)));
        if (c_.gates == Gates::kStrong) gate = -2.0 * std::fabs(x);
        if (c_.gates == Gates::kClosed) gate = -60.0 - 5.0 * std::fabs(x);
        if (c_.gates == Gates::kSegments && random() % 13 == 0) gate = -std::numeric_limits<double>::infinity();
        inputs_.log_g.push_back(static_cast<float>(gate));
      }
    }
  }

  // Zero where it must be, NaN elsewhere: nothing else may be read before it is written.
  void empty_cache(Guarded& cache) const {
    const size_t record = decode_record_bytes(shape_);
    std::vector<char> bytes(record * c_.batch * c_.kv_heads, static_cast<char>(0xff));
    for (size_t at = 0; at < bytes.size(); at += record) std::fill_n(bytes.begin() + at, 16, char{0});
    cache.upload(bytes.data());
  }

  std::vector<uint16_t> decode(const DecodeStep& step, DecodeResult& result) {
    const int most = *std::max_element(c_.steps.begin(), c_.steps.end());
    const size_t record = decode_record_bytes(shape_), query_heads = c_.kv_heads * c_.group;
    auto cache = std::make_unique<Guarded>(device_, record * c_.batch * c_.kv_heads);
    Guarded qkv(device_, c_.batch * most * fused_width() * 2), log_g(device_, c_.batch * most * c_.kv_heads * 4);
    Guarded y(device_, c_.batch * most * query_width() * 2);
    Guarded workspace(device_, decode_workspace_bytes(shape_, most, c_.splits));
    empty_cache(*cache);
    std::vector<uint16_t> out(c_.batch * c_.tokens * query_width());
    const auto check_guards = [&](const Guarded& memory, const char* name) {
      if (!Guarded::guards_intact(memory.download())) result.failures.push_back(std::string(name) + ": guard bytes");
    };
    size_t turn = 0;
    for (int first = 0, len; first < c_.tokens; first += len) {
      len = std::min(c_.steps[turn++ % c_.steps.size()], c_.tokens - first);
      if (first < c_.convert_at && first + len > c_.convert_at) len = c_.convert_at - first;
      if (first == c_.convert_at) convert(*cache, first, result);
      std::vector<uint16_t> tokens(c_.batch * most * fused_width(), 0xffff);
      std::vector<float> gates(size_t(c_.batch) * most * c_.kv_heads, 0.0f);
      for (int b = 0; b < c_.batch; ++b) {
        for (int t = 0; t < len; ++t) {
          const size_t from = size_t(b) * c_.tokens + first + t;
          uint16_t* to = &tokens[(b * most + t) * fused_width()];
          const auto put = [&to](const double* x, size_t width) {
            for (size_t i = 0; i < width; ++i) *to++ = to_bf16(static_cast<float>(x[i]));
          };
          put(&inputs_.q[from * query_width()], query_width());
          put(&inputs_.k[from * key_width()], key_width());
          put(&inputs_.v[from * key_width()], key_width());
          for (int h = 0; h < c_.kv_heads && !inputs_.log_g.empty(); ++h) {
            gates[(b * most + t) * c_.kv_heads + h] = static_cast<float>(inputs_.log_g[from * c_.kv_heads + h]);
          }
        }
      }
      qkv.upload(tokens.data());
      log_g.upload(gates.data());
      y.reset();
      DecodeParams params;
      params.shape = shape_;
      params.query_len = len;
      params.scale = inputs_.shape.scale;
      params.normalize = c_.normalize;
      const auto view = [&](size_t column) -> TensorView {
        const auto width = static_cast<int64_t>(fused_width());
        return {qkv.data<uint16_t>() + column, most * width, width, c_.head_dim};
      };
      params.q = view(0);
      params.k = view(query_width());
      params.v = view(query_width() + key_width());
      if (c_.gates != Gates::kNone) {
        params.log_g = {log_g.data<float>(), int64_t(most) * c_.kv_heads, c_.kv_heads, 1};
      }
      const auto y_token = static_cast<int64_t>(query_heads) * c_.head_dim;
      params.y = {y.data(), most * y_token, y_token, c_.head_dim};
      params.cache = cache->data();
      params.splits = c_.splits;
      params.workspace = workspace.data();
      step(params);
      const std::vector<char> bytes = y.download();
      for (int b = 0; b < c_.batch; ++b) {
        std::memcpy(&out[(size_t(b) * c_.tokens + first) * query_width()],
                    bytes.data() + Guarded::kGuard + size_t(b) * most * query_width() * 2, len * query_width() * 2);
      }
    }
    check_guards(*cache, "cache");
    check_guards(qkv, "q, k, v");
    check_guards(y, "y");
    check_guards(workspace, "workspace");
    return out;
  }

  // sym-lex/1 of the first `tokens` tokens of a (sequence, head), and its key sum.
  void expected_state(int b, int h, int tokens, std::vector<double>& state, std::vector<double>& key_sum) const {
    const int D = c_.head_dim, rows = c_.degree == 1 ? D : D * (D + 1) / 2;
    const size_t first_row = key_sum.size();
    state.resize(state.size() + size_t(rows) * D, 0.0);
    key_sum.resize(key_sum.size() + rows, 0.0);
    double gate = 0;
    for (int t = tokens - 1; t >= 0; --t) {
      const size_t token = size_t(b) * c_.tokens + t;
      const double *k = &inputs_.k[(token * c_.kv_heads + h) * D], *v = &inputs_.v[(token * c_.kv_heads + h) * D];
      const double decay = std::exp(gate);
      if (!inputs_.log_g.empty()) gate += inputs_.log_g[token * c_.kv_heads + h];
      size_t row = first_row;
      for (int i = 0; i < D; ++i) {
        for (int j = c_.degree == 1 ? D - 1 : i; j < D; ++j, ++row) {
          const double phi = decay * (c_.degree == 1 ? k[i] : (i == j ? 1 : 2) * k[i] * k[j]);
          key_sum[row] += phi;
          for (int e = 0; e < D; ++e) state[row * D + e] += phi * v[e];
        }
      }
    }
  }

  void convert(Guarded& cache, int tokens, DecodeResult& result) {
    std::vector<double> state, key_sum;
    for (int b = 0; b < c_.batch; ++b) {
      for (int h = 0; h < c_.kv_heads; ++h) expected_state(b, h, tokens, state, key_sum);
    }
    Guarded state_memory(device_, state.size() * 4), key_sum_memory(device_, key_sum.size() * 4);
    DecodeStateParams params;
    params.shape = shape_;
    params.cache = cache.data();
    params.state = state_memory.data<float>();
    params.key_sum = key_sum_memory.data<float>();
    decode_export_state(params);
    const auto floats = [&](const Guarded& memory, const char* name) {
      const std::vector<char> bytes = memory.download();
      if (!Guarded::guards_intact(bytes)) result.failures.push_back(std::string(name) + ": guard bytes");
      std::vector<float> values((bytes.size() - 2 * Guarded::kGuard) / 4);
      std::memcpy(values.data(), bytes.data() + Guarded::kGuard, values.size() * 4);
      return std::vector<double>(values.begin(), values.end());
    };
    // bf16 high and low hold 16 bits, so do the factors of a fold.
    const size_t records = size_t(c_.batch) * c_.kv_heads;
    result.state = compare("state", state, floats(state_memory, "state"), records, 3e-5);
    result.key_sum = compare("key_sum", key_sum, floats(key_sum_memory, "key_sum"), records, 1e-5);
    cache.reset();
    decode_import_state(params);
  }

  Device& device_;
  const DecodeCase& c_;
  DecodeShape shape_;
  ReferenceInputs inputs_;
  unsigned fills_ = 0;
};

}  // namespace

std::string DecodeCase::name() const {
  static const char* const kGates[] = {"none", "mild", "strong", "closed", "segments"};
  static const char* const kNormalize[] = {"sum", "layer", "none"};
  std::ostringstream out;
  out << "B" << batch << "_H" << kv_heads << "_R" << group << "_D" << head_dim << "_p" << degree << "_W" << window
      << "_S" << splits << "_T" << tokens << "_by";
  for (int len : steps) out << "_" << len;
  out << "_" << kGates[static_cast<int>(gates)] << "_" << kNormalize[static_cast<int>(normalize)];
  if (scale != 0) out << "_scale" << scale;
  if (magnitude != 1) out << "_x" << magnitude;
  if (convert_at >= 0) out << "_convert" << convert_at;
  if (seed != 1) out << "_s" << seed;
  return out.str();
}

bool DecodeResult::ok() const { return y.ok() && state.ok() && key_sum.ok() && failures.empty(); }

std::string DecodeResult::text() const {
  std::ostringstream out;
  out.precision(2);
  for (const Comparison* c : {&y, &state, &key_sum}) {
    if (c->tensor.empty()) continue;
    out << (c->ok() ? " " : " FAIL ") << c->tensor << " " << c->error << "/" << c->tolerance << " part "
        << c->worst_part << " (" << c->worst_where << ")";
  }
  for (const std::string& failure : failures) out << " FAIL " << failure;
  return out.str();
}

DecodeResult run_decode_case(Device& device, const DecodeCase& c, const DecodeStep& step, int threads) {
  return DecodeRun(device, c).run(step, threads);
}

}  // namespace power::kernels::testing
