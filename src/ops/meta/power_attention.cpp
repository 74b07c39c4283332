#include <torch/library.h>

#include "ops/dispatch.h"
#include "ops/meta/shapes.h"
#include "ops/symmetric_power.h"

// Meta key: shapes and dtypes only.
namespace power::ops::meta {
namespace {

c10::SymInt features(const at::Tensor& k, int64_t degree) {
  return state_dim(k.sym_size(3).guard_int(__FILE__, __LINE__), degree);
}

Tensor5 power_attention_forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const OptTensor& log_g,
                                const OptTensor& initial_state, const OptTensor& initial_key_sum, int64_t degree,
                                OptDouble scale, OptInt chunk_size, std::string_view normalize, bool return_state) {
  const at::ScalarType real = real_of(q);
  const SymSizes rows = {q.sym_size(0), q.sym_size(1), q.sym_size(2)};
  SymSizes state = {0}, key_sum = {0}, y = rows, r = rows;
  y.push_back(v.sym_size(3));
  r.push_back(degree > 2 ? 2 : 1);
  if (return_state) {
    key_sum = {k.sym_size(0), k.sym_size(2), features(k, degree)};
    state = key_sum;
    state.push_back(v.sym_size(3));
  }
  return {empty(y, q, q.scalar_type()), empty(state, q, real), empty(key_sum, q, real), empty(r, q, real),
          empty({0}, q, real)};
}

Tensor3 power_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const OptTensor& log_g,
                        const OptTensor& initial_state, const OptTensor& initial_key_sum, int64_t degree,
                        OptDouble scale, OptInt chunk_size, std::string_view normalize, bool return_state) {
  auto [y, state, key_sum, r, chunk_states] = power_attention_forward(
      q, k, v, log_g, initial_state, initial_key_sum, degree, scale, chunk_size, normalize, return_state);
  return {y, state, key_sum};
}

Tensor6 power_attention_backward(const at::Tensor& dy, const OptTensor& dstate, const OptTensor& dkey_sum,
                                 const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const OptTensor& log_g,
                                 const OptTensor& initial_state, const OptTensor& initial_key_sum, const at::Tensor& y,
                                 const at::Tensor& r, const at::Tensor& chunk_states, int64_t degree, OptDouble scale,
                                 OptInt chunk_size, std::string_view normalize, bool return_state) {
  return {gradient_of(q),
          gradient_of(k),
          gradient_of(v),
          gradient_of(log_g, q),
          gradient_of(initial_state, q),
          gradient_of(initial_key_sum, q)};
}

Tensor6 power_attention_step(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const OptTensor& log_g,
                             const OptTensor& state, const OptTensor& key_sum, const OptTensor& cache_k,
                             const OptTensor& cache_v, const OptTensor& cache_log_g, int64_t degree, OptDouble scale,
                             int64_t switch_over, std::string_view normalize) {
  const c10::SymInt cached = cache_k.has_value() ? cache_k->sym_size(1) : c10::SymInt(0);
  const c10::SymInt total = cached + k.sym_size(1);
  // Whether the cache is folded decides the shapes.
  const bool fold = total.guard_int(__FILE__, __LINE__) >= switch_over;
  auto [y, new_state, new_key_sum, r, chunk_states] =
      power_attention_forward(q, k, v, log_g, {}, {}, degree, scale, {}, normalize, fold);
  const c10::SymInt kept = fold ? c10::SymInt(0) : total;
  const at::ScalarType gate = log_g.has_value() ? log_g->scalar_type() : real_of(q);
  const SymSizes gates = log_g.has_value() ? SymSizes{k.sym_size(0), kept, k.sym_size(2)} : SymSizes{0};
  return {y,
          new_state,
          new_key_sum,
          empty({k.sym_size(0), kept, k.sym_size(2), k.sym_size(3)}, k, k.scalar_type()),
          empty({v.sym_size(0), kept, v.sym_size(2), v.sym_size(3)}, v, v.scalar_type()),
          empty(gates, q, gate)};
}

at::Tensor decode_step(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const OptTensor& log_g,
                       at::Tensor& cache, int64_t degree, OptDouble scale, int64_t window, std::string_view normalize) {
  return gradient_of(q);
}

void decode_import(const at::Tensor& state, const at::Tensor& key_sum, at::Tensor& cache, int64_t degree,
                   int64_t window) {}

Tensor2 decode_export(at::Tensor& cache, int64_t head_dim, int64_t degree, int64_t window) {
  SymSizes key_sum = {cache.sym_size(0), cache.sym_size(1), state_dim(head_dim, degree)}, state = key_sum;
  state.push_back(head_dim);
  return {empty(state, cache, at::kFloat), empty(key_sum, cache, at::kFloat)};
}

}  // namespace

TORCH_LIBRARY_IMPL(power_attention, Meta, m) {
  m.impl("power_attention", power_attention);
  m.impl("power_attention_forward", power_attention_forward);
  m.impl("power_attention_backward", power_attention_backward);
  m.impl("power_attention_step", power_attention_step);
  m.impl("decode_step", decode_step);
  m.impl("decode_import", decode_import);
  m.impl("decode_export", decode_export);
}

}  // namespace power::ops::meta
