#include <torch/library.h>

#include "ops/dispatch.h"
#include "ops/meta/shapes.h"
#include "ops/symmetric_power.h"

// Meta key of the low-level operators.
namespace power::ops::meta {
namespace {

Tensor2 attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const OptTensor& log_g, int64_t degree,
                  OptDouble scale, bool normalize) {
  const SymSizes rows = {q.sym_size(0), q.sym_size(1), q.sym_size(2)};
  SymSizes y = rows;
  y.push_back(v.sym_size(3));
  return {empty(y, q, normalize ? q.scalar_type() : real_of(q)), empty(rows, q, real_of(q))};
}

Tensor4 attention_backward(const OptTensor& dy, const OptTensor& dl, const at::Tensor& q, const at::Tensor& k,
                           const at::Tensor& v, const OptTensor& log_g, const at::Tensor& y, const at::Tensor& l,
                           int64_t degree, OptDouble scale, bool normalize) {
  return {gradient_of(q), gradient_of(k), gradient_of(v), gradient_of(log_g, q)};
}

Tensor2 update_state(const at::Tensor& k, const at::Tensor& v, const OptTensor& log_g, int64_t degree,
                     OptInt chunk_size) {
  const int64_t features = state_dim(k.sym_size(3).guard_int(__FILE__, __LINE__), degree);
  const c10::SymInt tokens = k.sym_size(1);
  const c10::SymInt chunks = chunk_size.has_value() ? (tokens + (*chunk_size - 1)) / *chunk_size : c10::SymInt(1);
  return {empty({k.sym_size(0), chunks, k.sym_size(2), features, v.sym_size(3)}, k, real_of(k)),
          empty({k.sym_size(0), chunks, k.sym_size(2), features}, k, real_of(k))};
}

Tensor3 update_state_backward(const OptTensor& dstate, const OptTensor& dkey_sum, const at::Tensor& k,
                              const at::Tensor& v, const OptTensor& log_g, int64_t degree, OptInt chunk_size) {
  return {gradient_of(k), gradient_of(v), gradient_of(log_g, k)};
}

at::Tensor without_chunks(const at::Tensor& x) {
  SymSizes sizes = x.sym_sizes().vec();
  sizes.erase(sizes.begin() + 1);
  return empty(sizes, x, x.scalar_type());
}

Tensor2 discumsum(const at::Tensor& x, const OptTensor& log_decay, const OptTensor& initial) {
  return {gradient_of(x), without_chunks(x)};
}

Tensor3 discumsum_backward(const OptTensor& dbefore, const OptTensor& dlast, const at::Tensor& before,
                           const OptTensor& log_decay) {
  return {gradient_of(before), gradient_of(log_decay, before), without_chunks(before)};
}

Tensor2 query_state(const at::Tensor& q, const at::Tensor& state, const at::Tensor& key_sum, const OptTensor& log_g,
                    int64_t degree, OptDouble scale, OptInt chunk_size) {
  const SymSizes rows = {q.sym_size(0), q.sym_size(1), q.sym_size(2)};
  SymSizes y = rows;
  y.push_back(state.sym_size(4));
  return {empty(y, q, real_of(q)), empty(rows, q, real_of(q))};
}

Tensor4 query_state_backward(const OptTensor& dy, const OptTensor& dl, const at::Tensor& q, const at::Tensor& state,
                             const at::Tensor& key_sum, const OptTensor& log_g, int64_t degree, OptDouble scale,
                             OptInt chunk_size) {
  return {gradient_of(q), gradient_of(state), gradient_of(key_sum), gradient_of(log_g, q)};
}

}  // namespace

TORCH_LIBRARY_IMPL(power_attention, Meta, m) {
  m.impl("attention", attention);
  m.impl("attention_backward", attention_backward);
  m.impl("update_state", update_state);
  m.impl("update_state_backward", update_state_backward);
  m.impl("discumsum", discumsum);
  m.impl("discumsum_backward", discumsum_backward);
  m.impl("query_state", query_state);
  m.impl("query_state_backward", query_state_backward);
}

}  // namespace power::ops::meta
