#include "ops/problem.h"

#include <ATen/ATen.h>

#include <cmath>

#include "ops/check_argument.h"
#include "ops/symmetric_power.h"

namespace power::ops {
namespace {

constexpr int64_t kChunkedHeadDimLimit = 32;      // degrees 3 and 4: the state fits
constexpr int64_t kChunkedHeadDimLimitLow = 128;  // degrees 1 and 2

template <class... Args>
void check(bool condition, const Args&... message) {
  check_argument(condition, "power_attention: ", message...);
}

void check_shape(const at::Tensor& tensor, const char* name, at::IntArrayRef expected, const char* letters) {
  check(tensor.sizes() == expected, name, " must be ", letters, " = ", expected, ", found ", tensor.sizes());
}

void check_same(const at::Tensor& tensor, const char* name, const at::Tensor& q) {
  check(tensor.device() == q.device(), name, " is on ", tensor.device(), " and q on ", q.device(),
        "; move them to one device");
  check(tensor.scalar_type() == q.scalar_type(), name, " has dtype ", tensor.scalar_type(), " and q ", q.scalar_type(),
        "; q, k and v need one dtype (autocast casts them)");
}

Normalize parse_normalize(const std::string& text) {
  if (text == "sum") return Normalize::kSum;
  if (text == "layer") return Normalize::kLayer;
  check(text == "none", "normalize is '", text, "'; supported: sum, layer, none");
  return Normalize::kNone;
}

// From where on the chunked form is the faster one, forward and backward, and its chunk size there.
struct Crossover {
  int64_t longest_quadratic, chunk;
};

// By degree and, rising within one, the largest head dim. From measured times (docs/performance.md); where one form was
// far ahead at every length tried, from their growth: linear for chunks, quadratic for pairs.
struct Crossovers {
  int64_t degree, head_dim;
  Crossover half, float32, composed;
};
constexpr Crossovers kCrossovers[] = {
    {1, 128, {768, 256}, {384, 128}, {256, 128}},
    {2, 16, {1536, 512}, {768, 128}, {768, 128}},
    {2, 32, {1536, 512}, {1920, 256}, {2048, 256}},
    {2, 64, {3840, 1024}, {3840, 1024}, {5120, 512}},
    {2, 128, {13312, 2048}, {13312, 1024}, {24576, 1024}},
    {3, 16, {10240, 512}, {3840, 512}, {3584, 512}},
    {3, 32, {53248, 4096}, {19456, 4096}, {49152, 4096}},
    {4, 16, {44032, 2048}, {18432, 2048}, {47104, 2048}},
    {4, 32, {503808, 16384}, {180224, 16384}, {524288, 16384}},
};

bool state_supported(const Problem& p) {
  return p.degree <= 2 ? p.head_dim <= kChunkedHeadDimLimitLow : p.degree <= 4 && p.head_dim <= kChunkedHeadDimLimit;
}

void check_state_supported(const Problem& p, const at::Tensor& q, const char* what) {
  if (state_supported(p)) return;
  const bool wide = q.scalar_type() == at::kDouble;
  double features = 1;
  for (int64_t i = 1; i <= p.degree; ++i)
    features = features * static_cast<double>(p.head_dim + i - 1) / static_cast<double>(i);
  const double bytes = features * static_cast<double>(p.value_dim + 1) * (wide ? 8 : 4);
  check(false, what, " of degree ", p.degree, " at head dim ", p.head_dim, " would need ", bytes / (1 << 20),
        " MiB of state for each sequence, head and chunk (", bytes * static_cast<double>(p.batch * p.heads) / (1 << 20),
        " MiB for one chunk of this call); supported: degrees 1 and 2 up to head dim ", kChunkedHeadDimLimitLow,
        ", 3 and 4 up to ", kChunkedHeadDimLimit, "; use the quadratic form (chunk_size 0) without states");
}

}  // namespace

Problem check_problem(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const OptTensor& log_g,
                      const OptTensor& initial_state, const OptTensor& initial_key_sum, int64_t degree,
                      std::optional<double> scale, std::optional<int64_t> chunk_size, const std::string& normalize,
                      bool return_state) {
  check(q.dim() == 4, "q must be (B,TQ,HQ,D), found ", q.sizes());
  check(k.dim() == 4, "k must be (B,TK,H,D), found ", k.sizes());
  check(v.dim() == 4, "v must be (B,TK,H,E), found ", v.sizes());
  Problem p{};
  p.batch = q.size(0), p.query_len = q.size(1), p.query_heads = q.size(2), p.head_dim = q.size(3);
  p.key_len = k.size(1), p.heads = k.size(2), p.value_dim = v.size(3);
  p.degree = degree;
  p.return_state = return_state;
  p.normalize = parse_normalize(normalize);
  check_shape(k, "k", {p.batch, p.key_len, p.heads, p.head_dim}, "(B,TK,H,D)");
  check_shape(v, "v", {p.batch, p.key_len, p.heads, p.value_dim}, "(B,TK,H,E)");
  check(p.batch > 0 && p.heads > 0 && p.head_dim > 0 && p.value_dim > 0 && p.query_len > 0,
        "no dimension may be empty: q ", q.sizes(), ", k ", k.sizes(), ", v ", v.sizes());
  check(p.query_heads > 0 && p.query_heads % p.heads == 0, "the query heads (", p.query_heads,
        ") must be a multiple of the key/value heads (", p.heads, ")");
  check(p.query_len <= p.key_len, "more queries (", p.query_len, ") than keys (", p.key_len,
        "): the queries stand at the last TQ key positions");
  check_same(k, "k", q);
  check_same(v, "v", q);
  const at::ScalarType dtype = q.scalar_type();
  check(dtype == at::kFloat || dtype == at::kBFloat16 || dtype == at::kHalf || dtype == at::kDouble, "dtype ", dtype,
        " is not supported; supported: float32, bfloat16, float16, float64");
  const at::ScalarType real = dtype == at::kDouble ? at::kDouble : at::kFloat;
  check(degree >= 1, "degree is ", degree, "; supported: 1, 2, 3, 4 and any even degree in the quadratic form");
  check(degree <= 4 || degree % 2 == 0, "degree ", degree,
        " is not supported; supported: 1, 2, 3, 4 and any even degree");
  p.scale = scale.value_or(1.0 / std::sqrt(static_cast<double>(p.head_dim)));
  check(p.scale != 0 && std::isfinite(p.scale), "scale is ", p.scale,
        "; it must be finite and not 0 (leave it out for 1/sqrt(D))");
  if (log_g.has_value()) {
    check_shape(*log_g, "log_g", {p.batch, p.key_len, p.heads}, "(B,TK,H)");
    check(log_g->device() == q.device(), "log_g is on ", log_g->device(), " and q on ", q.device());
    check(log_g->scalar_type() == real || log_g->scalar_type() == at::kFloat, "log_g has dtype ", log_g->scalar_type(),
          ", needs ", real, " (sums of gates do not survive half precision)");
  }
  check(initial_state.has_value() == initial_key_sum.has_value(),
        "initial_state and initial_key_sum belong together; found only one of them");
  check(!chunk_size.has_value() || *chunk_size >= 0, "chunk_size is ", chunk_size.value_or(0),
        "; it must be 0 (quadratic form) or positive");
  if (initial_state.has_value()) check_state_supported(p, q, "a state");
  if (return_state) check_state_supported(p, q, "a state");
  p.chunk_size = chunk_size.has_value() ? *chunk_size : choose_chunk_size(p, backend_of(p, q.device().type(), dtype));
  if (p.chunk_size > 0) check_state_supported(p, q, "the chunked form");
  if (initial_state.has_value()) {
    const int64_t features = state_dim(p.head_dim, degree);
    check_shape(*initial_state, "initial_state", {p.batch, p.heads, features, p.value_dim}, "(B,H,F,E)");
    check_shape(*initial_key_sum, "initial_key_sum", {p.batch, p.heads, features}, "(B,H,F)");
    for (const at::Tensor* state : {&*initial_state, &*initial_key_sum}) {
      check(state->scalar_type() == real && state->device() == q.device(), "states must be ", real, " on ", q.device(),
            ", found ", state->scalar_type(), " on ", state->device());
    }
  }
  return p;
}

Backend backend_of(const Problem& p, at::DeviceType device, at::ScalarType dtype) {
  const bool kernels = device == at::kCUDA && dtype != at::kDouble && p.head_dim % 8 == 0 && p.value_dim == p.head_dim;
  if (!kernels) return Backend::kComposed;
  return dtype == at::kFloat ? Backend::kFloat32Kernels : Backend::kHalfKernels;
}

int64_t choose_chunk_size(const Problem& p, Backend backend) {
  for (const Crossovers& row : kCrossovers) {
    if (p.degree != row.degree || p.head_dim > row.head_dim) continue;
    const Crossover& found = backend == Backend::kHalfKernels      ? row.half
                             : backend == Backend::kFloat32Kernels ? row.float32
                                                                   : row.composed;
    // A group of query heads shares the making of the state, which from degree 2 on is half of the kernels' work in
    // chunks (LibTorch's products were not measured in groups).
    const int64_t own = found.longest_quadratic;
    const int64_t longest = p.degree == 1 || backend == Backend::kComposed ? own : (own + own / p.group()) / 2;
    return p.key_len > longest ? found.chunk : 0;
  }
  return 0;  // no state
}

}  // namespace power::ops
