#include <ATen/ATen.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <cmath>
#include <limits>

#include "ops/composed/low_level.h"
#include "ops/composed/normalize.h"
#include "ops/cuda/kernel_tensors.h"
#include "ops/cuda/low_level.h"

namespace power::ops::cuda {
namespace {

Problem check(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const OptTensor& log_g, int64_t degree,
              OptDouble scale, bool normalize) {
  return check_problem(q, k, v, log_g, {}, {}, degree, scale, 0, normalize ? "sum" : "none", false);
}

kernels::AttentionShape float32_shape(const Problem& p) {
  kernels::AttentionShape shape = shape_of(p);
  shape.dtype = kernels::DataType::kFloat32;
  return shape;
}

bool serves(const Problem& p, const at::Tensor& q) {
  const int64_t longest = std::numeric_limits<int>::max();
  return q.scalar_type() != at::kDouble && p.value_dim == p.head_dim && p.batch <= longest && p.key_len <= longest &&
         kernels::unsupported_reason(float32_shape(p)) == nullptr;
}

// (B,T,HQ) to the kernels' order of rows (B,H,T,R), and back.
at::Tensor kernel_rows(const at::Tensor& x, int64_t heads) {
  return x.to(at::kFloat).unflatten(2, {heads, -1}).transpose(1, 2).contiguous();
}
at::Tensor from_kernel_rows(const at::Tensor& x) { return x.transpose(1, 2).flatten(2).contiguous(); }

}  // namespace

Tensor2 attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const OptTensor& log_g, int64_t degree,
                  OptDouble scale, bool normalize) {
  const Problem p = check(q, k, v, log_g, degree, scale, normalize);
  if (!serves(p, q)) return composed::attention(q, k, v, log_g, degree, scale, normalize);
  const c10::cuda::CUDAGuard device(q.device());
  const at::TensorOptions real = q.options().dtype(at::kFloat);
  const at::Tensor q_in = readable(q, at::kFloat), k_in = readable(k, at::kFloat), v_in = readable(v, at::kFloat);
  const at::Tensor gates = log_g.has_value() ? log_g->to(at::kFloat) : at::Tensor();
  const at::Tensor y = at::empty(q.sizes(), real), l = at::empty({p.batch, p.heads, p.query_len, p.group()}, real);
  kernels::ForwardParams params;
  params.shape = float32_shape(p);
  const at::Tensor stats = at::empty({static_cast<int64_t>(kernels::row_stats_floats(params.shape))}, real);
  params.q = view(q_in), params.k = view(k_in), params.v = view(v_in), params.y = view(y);
  params.log_g = gate_view(gates);
  params.row_stats = stats.data_ptr<float>();
  params.l = l.data_ptr<float>();
  const at::Tensor scratch = workspace(kernels::forward_workspace_bytes(params), q);
  params.workspace = scratch.numel() > 0 ? scratch.data_ptr() : nullptr;
  params.stream = c10::cuda::getCurrentCUDAStream().stream();
  kernels::power_attention_forward(params);
  return {normalize ? y.to(q.scalar_type()) : y, from_kernel_rows(l)};
}

Tensor4 attention_backward(const OptTensor& dy, const OptTensor& dl, const at::Tensor& q, const at::Tensor& k,
                           const at::Tensor& v, const OptTensor& log_g, const at::Tensor& y, const at::Tensor& l,
                           int64_t degree, OptDouble scale, bool normalize) {
  const Problem p = check(q, k, v, log_g, degree, scale, normalize);
  if (!serves(p, q)) return composed::attention_backward(dy, dl, q, k, v, log_g, y, l, degree, scale, normalize);
  const c10::cuda::CUDAGuard device(q.device());
  const at::TensorOptions real = q.options().dtype(at::kFloat);
  const at::Tensor q_in = readable(q, at::kFloat), k_in = readable(k, at::kFloat), v_in = readable(v, at::kFloat);
  const at::Tensor y_in = readable(y, at::kFloat);
  const at::Tensor dy_in = dy.has_value() ? readable(*dy, at::kFloat) : at::zeros(y.sizes(), real);
  const at::Tensor gates = log_g.has_value() ? log_g->to(at::kFloat) : at::Tensor();
  const at::Tensor l_rows = kernel_rows(l, p.heads);
  at::Tensor dl_rows;
  if (dl.has_value()) dl_rows = kernel_rows(*dl, p.heads);
  // What the forward kernel keeps of each row, from l: its weights are the true ones divided by `unit`.
  at::Tensor row_scale, unit = at::full({}, std::pow(p.scale, p.degree), real.dtype(at::kDouble));
  if (degree > 2) {
    row_scale = kernel_rows(row_scaling(q, k).squeeze(-1), p.heads);
    unit = unit / row_scale.to(at::kDouble).pow(p.degree - 1);
  }
  const at::Tensor r = normalize ? (unit / l_rows).masked_fill(l_rows == 0, 0) : unit.expand(l_rows.sizes());
  at::Tensor stats = r.to(at::kFloat).flatten();
  if (row_scale.defined()) stats = at::cat({stats, row_scale.flatten()});
  stats = stats.contiguous();
  const at::Tensor dq = at::empty(q.sizes(), real), dk = at::empty(k.sizes(), real), dv = at::empty(v.sizes(), real);
  at::Tensor dlog_g = at::empty({0}, real);
  kernels::BackwardParams params;
  params.shape = float32_shape(p);
  params.q = view(q_in), params.k = view(k_in), params.v = view(v_in);
  params.y = view(y_in), params.dy = view(dy_in);
  params.dq = view(dq), params.dk = view(dk), params.dv = view(dv);
  params.log_g = gate_view(gates);
  params.row_stats = stats.data_ptr<float>();
  if (dl_rows.defined()) params.dl = dl_rows.data_ptr<float>(), params.l = l_rows.data_ptr<float>();
  if (gates.defined()) {
    dlog_g = at::empty({p.batch, p.key_len, p.heads}, real);
    params.dlog_g = dlog_g.data_ptr<float>();
    params.dlog_g_batch = dlog_g.stride(0), params.dlog_g_token = dlog_g.stride(1);
    params.dlog_g_head = dlog_g.stride(2);
  }
  const at::Tensor scratch = workspace(kernels::backward_workspace_bytes(params), q);
  params.workspace = scratch.data_ptr();
  params.stream = c10::cuda::getCurrentCUDAStream().stream();
  kernels::power_attention_backward(params);
  const at::ScalarType dtype = q.scalar_type();
  return {dq.to(dtype), dk.to(dtype), dv.to(dtype), dlog_g};
}

}  // namespace power::ops::cuda
