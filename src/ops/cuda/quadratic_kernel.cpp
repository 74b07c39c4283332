#include "ops/cuda/quadratic_kernel.h"

#include <ATen/ATen.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <limits>

#include "core/error.h"
#include "ops/cuda/kernel_tensors.h"

namespace power::ops::cuda {
namespace {

kernels::AttentionShape shape_of(const Problem& p) {
  kernels::AttentionShape shape;
  shape.batch = static_cast<int>(p.batch);
  shape.query_len = static_cast<int>(p.query_len);
  shape.key_len = static_cast<int>(p.key_len);
  shape.kv_heads = static_cast<int>(p.heads);
  shape.group = static_cast<int>(p.group());
  shape.head_dim = static_cast<int>(p.head_dim);
  shape.degree = static_cast<int>(p.degree);
  shape.scale = p.scale;
  shape.normalize = kernel_normalize(p.normalize);
  return shape;
}

void* pointer(const at::Tensor& t) { return t.numel() > 0 ? t.data_ptr() : nullptr; }

}  // namespace

bool quadratic_kernel_serves(const Problem& p, const at::Tensor& q, bool has_initial_state) {
  const bool half = q.scalar_type() == at::kBFloat16 || q.scalar_type() == at::kHalf;
  const int64_t longest = std::numeric_limits<int>::max();
  if (!half || p.chunk_size != 0 || p.return_state || has_initial_state) return false;
  if (p.value_dim != p.head_dim || p.batch > longest || p.key_len > longest) return false;
  return kernels::unsupported_reason(shape_of(p)) == nullptr;
}

QuadraticForward quadratic_forward(const Problem& p, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                   const OptTensor& log_g) {
  const c10::cuda::CUDAGuard device(q.device());
  const kernels::AttentionShape shape = shape_of(p);
  const at::Tensor q_in = readable(q), k_in = readable(k), v_in = readable(v);
  const at::Tensor gates = log_g.has_value() ? log_g->to(at::kFloat) : at::Tensor();
  const at::Tensor y = at::empty({p.batch, p.query_len, p.query_heads, p.value_dim}, q.options().dtype(at::kBFloat16));
  const at::Tensor r = at::empty({p.batch, p.query_len, p.query_heads, p.row_values()}, q.options().dtype(at::kFloat));
  require(kernels::row_stats_floats(shape) <= static_cast<size_t>(r.numel()), ErrorKind::kRuntime,
          "power_attention: the kernel keeps ", kernels::row_stats_floats(shape), " row values, and there is room for ",
          r.numel());
  const at::Tensor scratch = workspace(kernels::forward_workspace_bytes(shape, gates.defined()), q);
  kernels::ForwardParams params;
  params.shape = shape;
  params.q = view(q_in), params.k = view(k_in), params.v = view(v_in), params.y = view(y);
  params.log_g = gate_view(gates);
  params.row_stats = r.data_ptr<float>();
  params.workspace = pointer(scratch);
  params.stream = c10::cuda::getCurrentCUDAStream().stream();
  kernels::power_attention_forward(params);
  return {y.to(q.scalar_type()), r};
}

QuadraticBackward quadratic_backward(const Problem& p, const at::Tensor& dy, const at::Tensor& q, const at::Tensor& k,
                                     const at::Tensor& v, const OptTensor& log_g, const at::Tensor& y,
                                     const at::Tensor& r) {
  const c10::cuda::CUDAGuard device(q.device());
  const kernels::AttentionShape shape = shape_of(p);
  const at::Tensor q_in = readable(q), k_in = readable(k), v_in = readable(v), y_in = readable(y);
  const at::Tensor dy_in = readable(dy), r_in = r.contiguous();
  const at::Tensor gates = log_g.has_value() ? log_g->to(at::kFloat) : at::Tensor();
  const at::TensorOptions options = q.options().dtype(at::kBFloat16);
  const at::Tensor dq = at::empty(q.sizes(), options), dk = at::empty(k.sizes(), options);
  const at::Tensor dv = at::empty(v.sizes(), options);
  const at::Tensor scratch = workspace(kernels::backward_workspace_bytes(shape, gates.defined()), q);
  kernels::BackwardParams params;
  params.shape = shape;
  params.q = view(q_in), params.k = view(k_in), params.v = view(v_in);
  params.y = view(y_in), params.dy = view(dy_in);
  params.dq = view(dq), params.dk = view(dk), params.dv = view(dv);
  params.log_g = gate_view(gates);
  params.row_stats = r_in.data_ptr<float>();
  at::Tensor dlog_g;
  if (gates.defined()) {
    dlog_g = at::empty({p.batch, p.key_len, p.heads}, gates.options());
    params.dlog_g = dlog_g.data_ptr<float>();
    params.dlog_g_batch = dlog_g.stride(0);
    params.dlog_g_token = dlog_g.stride(1);
    params.dlog_g_head = dlog_g.stride(2);
  }
  params.workspace = pointer(scratch);
  params.stream = c10::cuda::getCurrentCUDAStream().stream();
  kernels::power_attention_backward(params);
  const at::ScalarType dtype = q.scalar_type();
  return {dq.to(dtype), dk.to(dtype), dv.to(dtype), dlog_g};
}

}  // namespace power::ops::cuda
