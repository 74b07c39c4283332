#include <ATen/ATen.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "kernels/power_attention_float32/state_ops.h"
#include "ops/composed/low_level.h"
#include "ops/cuda/kernel_tensors.h"
#include "ops/cuda/low_level.h"
#include "ops/symmetric_power.h"

namespace power::ops::cuda {
namespace {

namespace float32 = kernels::float32;

void* stream() { return c10::cuda::getCurrentCUDAStream().stream(); }

float32::StateShape state_shape(const Problem& p, int64_t chunk_size) {
  float32::StateShape shape;
  shape.batch = static_cast<int>(p.batch);
  shape.tokens = static_cast<int>(p.key_len);
  shape.kv_heads = static_cast<int>(p.heads);
  shape.group = static_cast<int>(p.group());
  shape.head_dim = static_cast<int>(p.head_dim);
  shape.degree = static_cast<int>(p.degree);
  shape.chunk = static_cast<int>(chunk_size);
  return shape;
}

bool serves(const Problem& p, const at::Tensor& x, int64_t chunk_size) {
  const int64_t longest = std::numeric_limits<int>::max();
  return x.scalar_type() != at::kDouble && p.value_dim == p.head_dim && p.batch <= longest && p.key_len <= longest &&
         float32::state_ops_serve(state_shape(p, chunk_size));
}

// The kernels' workspace, which they want zeroed.
at::Tensor zeroed_workspace(const float32::StateShape& shape, bool gated, const at::Tensor& like) {
  const auto bytes = static_cast<int64_t>(float32::state_workspace_bytes(shape, gated));
  return at::zeros({bytes}, like.options().dtype(at::kByte));
}

kernels::State state_view(const at::Tensor& state, const at::Tensor& key_sum) {
  return {state.data_ptr<float>(), key_sum.data_ptr<float>()};
}

at::Tensor float_gates(const OptTensor& log_g) { return log_g.has_value() ? log_g->to(at::kFloat) : at::Tensor(); }

at::Tensor given_or_zeros(const OptTensor& t, at::IntArrayRef shape, const at::TensorOptions& options) {
  return t.has_value() ? t->to(at::kFloat).contiguous() : at::zeros(shape, options);
}

}  // namespace

Tensor2 update_state(const at::Tensor& k, const at::Tensor& v, const OptTensor& log_g, int64_t degree,
                     OptInt chunk_size) {
  const Problem p = composed::check_keys(k, v, log_g, degree);
  const int64_t chunk = composed::check_chunk_size(p.key_len, chunk_size), chunks = (p.key_len + chunk - 1) / chunk;
  if (!serves(p, k, chunk)) return composed::update_state(k, v, log_g, degree, chunk_size);
  const c10::cuda::CUDAGuard device(k.device());
  const at::TensorOptions real = k.options().dtype(at::kFloat);
  const int64_t features = state_dim(p.head_dim, degree);
  const at::Tensor state = at::empty({p.batch, chunks, p.heads, features, p.value_dim}, real);
  const at::Tensor key_sum = at::empty({p.batch, chunks, p.heads, features}, real);
  const at::Tensor k_in = readable(k, at::kFloat), v_in = readable(v, at::kFloat), gates = float_gates(log_g);
  float32::UpdateStateParams params;
  params.shape = state_shape(p, chunk);
  params.k = view(k_in), params.v = view(v_in);
  params.log_g = gate_view(gates);
  params.sums = state_view(state, key_sum);
  const at::Tensor scratch = zeroed_workspace(params.shape, gates.defined(), k);
  params.workspace = scratch.data_ptr();
  params.stream = stream();
  float32::update_state(params);
  return {state, key_sum};
}

Tensor3 update_state_backward(const OptTensor& dstate, const OptTensor& dkey_sum, const at::Tensor& k,
                              const at::Tensor& v, const OptTensor& log_g, int64_t degree, OptInt chunk_size) {
  const Problem p = composed::check_keys(k, v, log_g, degree);
  const int64_t chunk = composed::check_chunk_size(p.key_len, chunk_size), chunks = (p.key_len + chunk - 1) / chunk;
  if (!serves(p, k, chunk)) {
    return composed::update_state_backward(dstate, dkey_sum, k, v, log_g, degree, chunk_size);
  }
  const c10::cuda::CUDAGuard device(k.device());
  const at::TensorOptions real = k.options().dtype(at::kFloat);
  const int64_t features = state_dim(p.head_dim, degree);
  const at::Tensor ds = given_or_zeros(dstate, {p.batch, chunks, p.heads, features, p.value_dim}, real);
  const at::Tensor dz = given_or_zeros(dkey_sum, {p.batch, chunks, p.heads, features}, real);
  const at::Tensor k_in = readable(k, at::kFloat), v_in = readable(v, at::kFloat), gates = float_gates(log_g);
  const at::Tensor dk = at::empty(k.sizes(), real), dv = at::empty(v.sizes(), real);
  at::Tensor dlog_g = at::empty({0}, real);
  float32::UpdateStateBackwardParams params;
  params.shape = state_shape(p, chunk);
  params.k = view(k_in), params.v = view(v_in), params.dk = view(dk), params.dv = view(dv);
  params.log_g = gate_view(gates);
  params.dsums = state_view(ds, dz);
  if (gates.defined()) {
    dlog_g = at::empty({p.batch, p.key_len, p.heads}, real);
    params.dlog_g = dlog_g.data_ptr<float>();
  }
  const at::Tensor scratch = zeroed_workspace(params.shape, gates.defined(), k);
  params.workspace = scratch.data_ptr();
  params.stream = stream();
  float32::update_state_backward(params);
  return {dk.to(k.scalar_type()), dv.to(v.scalar_type()), dlog_g};
}

Tensor2 query_state(const at::Tensor& q, const at::Tensor& state, const at::Tensor& key_sum, const OptTensor& log_g,
                    int64_t degree, OptDouble scale, OptInt chunk_size) {
  const Problem p = composed::check_query_state(q, state, key_sum, log_g, degree, scale, chunk_size);
  const int64_t chunk = composed::check_chunk_size(p.key_len, chunk_size);
  if (!serves(p, q, chunk)) return composed::query_state(q, state, key_sum, log_g, degree, scale, chunk_size);
  const c10::cuda::CUDAGuard device(q.device());
  const at::TensorOptions real = q.options().dtype(at::kFloat);
  const at::Tensor q_in = readable(q, at::kFloat), gates = float_gates(log_g);
  const at::Tensor s = state.contiguous(), z = key_sum.contiguous();
  const at::Tensor y = at::empty(q.sizes(), real), l = at::empty({p.batch, p.heads, p.query_len, p.group()}, real);
  float32::QueryStateParams params;
  params.shape = state_shape(p, chunk);
  params.scale = p.scale;
  params.q = view(q_in), params.y = view(y);
  params.log_g = gate_view(gates);
  params.states = state_view(s, z);
  params.l = l.data_ptr<float>();
  const at::Tensor scratch = zeroed_workspace(params.shape, gates.defined(), q);
  params.workspace = scratch.data_ptr();
  params.stream = stream();
  float32::query_state(params);
  return {y, l.transpose(1, 2).flatten(2).contiguous()};
}

Tensor4 query_state_backward(const OptTensor& dy, const OptTensor& dl, const at::Tensor& q, const at::Tensor& state,
                             const at::Tensor& key_sum, const OptTensor& log_g, int64_t degree, OptDouble scale,
                             OptInt chunk_size) {
  const Problem p = composed::check_query_state(q, state, key_sum, log_g, degree, scale, chunk_size);
  const int64_t chunk = composed::check_chunk_size(p.key_len, chunk_size);
  if (!serves(p, q, chunk)) {
    return composed::query_state_backward(dy, dl, q, state, key_sum, log_g, degree, scale, chunk_size);
  }
  const c10::cuda::CUDAGuard device(q.device());
  const at::TensorOptions real = q.options().dtype(at::kFloat);
  const at::Tensor q_in = readable(q, at::kFloat), gates = float_gates(log_g);
  const at::Tensor s = state.contiguous(), z = key_sum.contiguous();
  const at::Tensor dy_in = readable(given_or_zeros(dy, q.sizes(), real), at::kFloat);
  const at::Tensor dl_all = given_or_zeros(dl, {p.batch, p.query_len, p.query_heads}, real);
  const at::Tensor minus_dl = dl_all.unflatten(2, {p.heads, -1}).transpose(1, 2).neg().contiguous();
  const at::Tensor dq = at::empty(q.sizes(), real), ds = at::empty(s.sizes(), real), dz = at::empty(z.sizes(), real);
  at::Tensor dlog_g = at::empty({0}, real);
  float32::QueryStateBackwardParams params;
  params.shape = state_shape(p, chunk);
  params.scale = p.scale;
  params.q = view(q_in), params.dy = view(dy_in), params.dq = view(dq);
  params.log_g = gate_view(gates);
  params.states = state_view(s, z), params.dstates = state_view(ds, dz);
  params.minus_dl = minus_dl.data_ptr<float>();
  if (gates.defined()) {
    dlog_g = at::empty({p.batch, p.key_len, p.heads}, real);
    params.dlog_g = dlog_g.data_ptr<float>();
  }
  const at::Tensor scratch = zeroed_workspace(params.shape, gates.defined(), q);
  params.workspace = scratch.data_ptr();
  params.stream = stream();
  float32::query_state_backward(params);
  return {dq.to(q.scalar_type()), ds, dz, dlog_g};
}

namespace {

bool sums_serve(const at::Tensor& x) {
  const int64_t elements = x.numel() / std::max<int64_t>(1, x.size(0) * x.size(1) * x.size(2));
  return x.scalar_type() == at::kFloat && x.numel() > 0 &&
         float32::discounted_sum_serves(x.size(0), x.size(1), x.size(2), elements);
}

template <class Params>
void set_sizes(Params& params, const at::Tensor& x) {
  params.batch = static_cast<int>(x.size(0));
  params.chunks = static_cast<int>(x.size(1));
  params.heads = static_cast<int>(x.size(2));
  params.elements = static_cast<int>(x.numel() / (x.size(0) * x.size(1) * x.size(2)));
  params.stream = stream();
}

// One contiguous float32 factor a (batch, chunk, head); -inf: nothing passes.
at::Tensor decay_of(const OptTensor& log_decay) {
  if (!log_decay.has_value()) return {};
  return log_decay->to(at::kDouble).exp().to(at::kFloat).contiguous();
}

const float* pointer(const at::Tensor& t) { return t.defined() ? t.data_ptr<float>() : nullptr; }

std::vector<int64_t> shape_of_one(const at::Tensor& x) {
  std::vector<int64_t> shape = x.sizes().vec();
  shape.erase(shape.begin() + 1);
  return shape;
}

}  // namespace

Tensor2 discumsum(const at::Tensor& x, const OptTensor& log_decay, const OptTensor& initial) {
  composed::check_discumsum(x, log_decay, initial);
  if (!sums_serve(x)) return composed::discumsum(x, log_decay, initial);
  const c10::cuda::CUDAGuard device(x.device());
  const at::Tensor x_in = x.contiguous(), decay = decay_of(log_decay);
  const at::Tensor first = initial.has_value() ? initial->to(at::kFloat).contiguous() : at::Tensor();
  const at::Tensor before = at::empty(x.sizes(), x.options()), last = at::empty(shape_of_one(x), x.options());
  float32::DiscountedSum params;
  set_sizes(params, x);
  params.x = x_in.data_ptr<float>(), params.decay = pointer(decay), params.initial = pointer(first);
  params.before = before.data_ptr<float>(), params.last = last.data_ptr<float>();
  float32::discounted_sum(params);
  return {before, last};
}

Tensor3 discumsum_backward(const OptTensor& dbefore, const OptTensor& dlast, const at::Tensor& before,
                           const OptTensor& log_decay) {
  if (!sums_serve(before)) return composed::discumsum_backward(dbefore, dlast, before, log_decay);
  const c10::cuda::CUDAGuard device(before.device());
  const auto given = [](const OptTensor& t) { return t.has_value() ? t->contiguous() : at::Tensor(); };
  const at::Tensor before_in = before.contiguous(), decay = decay_of(log_decay);
  const at::Tensor dbefore_in = given(dbefore), dlast_in = given(dlast);
  const at::Tensor dx = at::empty(before.sizes(), before.options());
  const at::Tensor dinitial = at::empty(shape_of_one(before), before.options());
  at::Tensor dlog_decay = at::empty({0}, before.options()), parts;
  float32::DiscountedSumBackward params;
  set_sizes(params, before);
  params.before = before_in.data_ptr<float>(), params.decay = pointer(decay);
  params.dbefore = pointer(dbefore_in), params.dlast = pointer(dlast_in);
  params.dx = dx.data_ptr<float>(), params.dinitial = dinitial.data_ptr<float>();
  if (decay.defined()) {
    const int64_t count = float32::discounted_sum_parts(params.elements);
    parts = at::empty({before.size(0), before.size(1), before.size(2), count}, before.options());
    params.ddecay = parts.data_ptr<float>();
  }
  float32::discounted_sum_backward(params);
  if (decay.defined()) dlog_decay = (parts.sum(-1) * decay).to(log_decay->scalar_type());
  return {dx, dlog_decay, dinitial};
}

}  // namespace power::ops::cuda
