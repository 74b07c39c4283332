#include "ops/cuda/attention_kernel.h"

#include <ATen/ATen.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <c10/util/Exception.h>
#include <cuda_runtime_api.h>

#include <limits>
#include <optional>

#include "ops/cuda/kernel_tensors.h"
#include "ops/symmetric_power.h"

namespace power::ops::cuda {
namespace {

// What a block may take of shared memory: 99 KB on sm_86 and sm_89, 163 KB on sm_80, 227 KB on sm_90.
size_t block_shared_memory(at::Device device) {
  int bytes = 0;
  C10_CUDA_CHECK(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device.index()));
  return static_cast<size_t>(bytes);
}

bool fits(const kernels::AttentionShape& shape, bool states, at::Device device) {
  return kernels::shared_memory_bytes(shape, states) <= block_shared_memory(device);
}

// The shape as the bf16 kernels run it on this device, or nullopt where they do not. Where a block of the chunked
// kernels needs more shared memory than it gets, the quadratic ones compute the same, in time that grows with the
// square of the length; a state they do not have.
std::optional<kernels::AttentionShape> bf16_shape(const Problem& p, bool states, at::Device device) {
  kernels::AttentionShape shape = shape_of(p);
  if ((states && p.degree > 2) || kernels::unsupported_reason(shape) != nullptr) return std::nullopt;
  if (fits(shape, states, device)) return shape;
  const size_t needed = kernels::shared_memory_bytes(shape, states);
  shape.chunk = 0;
  const bool quadratic = !states && kernels::unsupported_reason(shape) == nullptr && fits(shape, false, device);
  TORCH_WARN_ONCE("power_attention: the kernels with states take ", needed,
                  " bytes of shared memory a block at head dim ", p.head_dim, ", this GPU allows ",
                  block_shared_memory(device), "; ",
                  quadratic ? "the quadratic kernels run instead, slower on long sequences"
                            : "the float32 kernels run instead, several times slower",
                  " (head dims up to 64 need less)");
  if (!quadratic) return std::nullopt;
  return shape;
}

// The shape as kernels run it, with the dtype that they run it in: half precision in bf16, or in float32 where kernels
// are there only (states of degrees 3 and 4, chunks of any size). nullopt where there is no kernel.
std::optional<kernels::AttentionShape> kernel_shape(const Problem& p, bool states, const at::Tensor& q) {
  const at::ScalarType dtype = q.scalar_type();
  const int64_t longest = std::numeric_limits<int>::max();
  if (dtype == at::kDouble || p.value_dim != p.head_dim || p.batch > longest || p.key_len > longest)
    return std::nullopt;
  if (dtype != at::kFloat) {
    if (const auto shape = bf16_shape(p, states, q.device())) return shape;
  }
  kernels::AttentionShape shape = shape_of(p);
  shape.dtype = kernels::DataType::kFloat32;
  if (kernels::unsupported_reason(shape) != nullptr || !fits(shape, states, q.device())) return std::nullopt;
  return shape;
}

at::ScalarType dtype_of(const kernels::AttentionShape& shape) {
  return shape.dtype == kernels::DataType::kFloat32 ? at::kFloat : at::kBFloat16;
}

void* pointer(const at::Tensor& t) { return t.numel() > 0 ? t.data_ptr() : nullptr; }

// Contiguous float32 tensors of a state; what the kernels see of them.
struct StateTensors {
  at::Tensor state, key_sum;
  kernels::State view() const {
    if (!state.defined()) return {};
    return {state.data_ptr<float>(), key_sum.data_ptr<float>()};
  }
};

StateTensors given(const OptTensor& state, const OptTensor& key_sum) {
  if (!state.has_value()) return {};
  return {state->contiguous(), key_sum->contiguous()};
}

StateTensors new_state(const Problem& p, const at::Tensor& like) {
  const at::TensorOptions options = like.options().dtype(at::kFloat);
  const int64_t features = state_dim(p.head_dim, p.degree);
  return {at::empty({p.batch, p.heads, features, p.value_dim}, options),
          at::empty({p.batch, p.heads, features}, options)};
}

// The states of all chunks are kept for the backward pass where those of many layers fit the GPU; making them again
// costs about a seventh of the operator's time. Both give the same bits.
bool keeps_states(size_t bytes) {
  constexpr size_t kLayers = 64;
  static const size_t total = [] {
    size_t free_bytes = 0, total_bytes = 0;
    C10_CUDA_CHECK(cudaMemGetInfo(&free_bytes, &total_bytes));
    return total_bytes;
  }();
  const bool keep = bytes * kLayers <= total;
  if (!keep) {
    TORCH_WARN_ONCE("power_attention: the states of one call take ", bytes >> 20,
                    " MiB; the backward pass makes them again instead of keeping them");
  }
  return keep;
}

}  // namespace

bool attention_kernel_serves(const Problem& p, const at::Tensor& q, bool has_initial_state) {
  return kernel_shape(p, has_initial_state || p.return_state, q).has_value();
}

KernelForward attention_kernel_forward(const Problem& p, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                       const OptTensor& log_g, const OptTensor& initial_state,
                                       const OptTensor& initial_key_sum) {
  const c10::cuda::CUDAGuard device(q.device());
  const kernels::AttentionShape shape = kernel_shape(p, initial_state.has_value() || p.return_state, q).value();
  const at::ScalarType dtype = dtype_of(shape);
  const at::Tensor q_in = readable(q, dtype), k_in = readable(k, dtype), v_in = readable(v, dtype);
  const at::Tensor gates = log_g.has_value() ? log_g->to(at::kFloat) : at::Tensor();
  const at::TensorOptions real = q.options().dtype(at::kFloat);
  const at::Tensor y = at::empty({p.batch, p.query_len, p.query_heads, p.value_dim}, q.options().dtype(dtype));
  const at::Tensor r = at::empty({p.batch, p.query_len, p.query_heads, p.row_values()}, real);
  TORCH_INTERNAL_ASSERT(kernels::row_stats_floats(shape) <= static_cast<size_t>(r.numel()));
  const StateTensors initial = given(initial_state, initial_key_sum);
  const StateTensors final = p.return_state ? new_state(p, q) : StateTensors{};
  const size_t states_bytes = kernels::saved_states_bytes(shape, initial.state.defined());
  const at::Tensor states = workspace(states_bytes > 0 && keeps_states(states_bytes) ? states_bytes : 0, q);
  kernels::ForwardParams params;
  params.shape = shape;
  params.q = view(q_in), params.k = view(k_in), params.v = view(v_in), params.y = view(y);
  params.log_g = gate_view(gates);
  params.initial = initial.view(), params.final = final.view();
  params.states = pointer(states);
  params.row_stats = r.data_ptr<float>();
  const at::Tensor scratch = workspace(kernels::forward_workspace_bytes(params), q);
  params.workspace = pointer(scratch);
  params.stream = c10::cuda::getCurrentCUDAStream().stream();
  kernels::power_attention_forward(params);
  const at::Tensor none = at::empty({0}, real);
  return {y.to(q.scalar_type()), r, p.return_state ? final.state : none, p.return_state ? final.key_sum : none, states};
}

KernelBackward attention_kernel_backward(const Problem& p, const at::Tensor& dy, const OptTensor& dstate,
                                         const OptTensor& dkey_sum, const at::Tensor& q, const at::Tensor& k,
                                         const at::Tensor& v, const OptTensor& log_g, const OptTensor& initial_state,
                                         const OptTensor& initial_key_sum, const at::Tensor& y, const at::Tensor& r,
                                         const at::Tensor& chunk_states) {
  const c10::cuda::CUDAGuard device(q.device());
  const kernels::AttentionShape shape = kernel_shape(p, initial_state.has_value() || p.return_state, q).value();
  const at::ScalarType dtype = dtype_of(shape);
  const at::Tensor q_in = readable(q, dtype), k_in = readable(k, dtype), v_in = readable(v, dtype);
  const at::Tensor y_in = readable(y, dtype), dy_in = readable(dy, dtype), r_in = r.contiguous();
  const at::Tensor gates = log_g.has_value() ? log_g->to(at::kFloat) : at::Tensor();
  const at::TensorOptions options = q.options().dtype(dtype);
  const at::Tensor dq = at::empty(q.sizes(), options), dk = at::empty(k.sizes(), options);
  const at::Tensor dv = at::empty(v.sizes(), options);
  const at::Tensor none = at::empty({0}, r.options());
  const StateTensors initial = given(initial_state, initial_key_sum);
  const StateTensors dinitial = initial.state.defined() ? new_state(p, q) : StateTensors{none, none};
  StateTensors dfinal;
  if (dstate.has_value() || dkey_sum.has_value()) {
    dfinal = new_state(p, q);
    dfinal.state = dstate.has_value() ? dstate->contiguous() : dfinal.state.zero_();
    dfinal.key_sum = dkey_sum.has_value() ? dkey_sum->contiguous() : dfinal.key_sum.zero_();
  }
  kernels::BackwardParams params;
  params.shape = shape;
  params.q = view(q_in), params.k = view(k_in), params.v = view(v_in);
  params.y = view(y_in), params.dy = view(dy_in);
  params.dq = view(dq), params.dk = view(dk), params.dv = view(dv);
  params.log_g = gate_view(gates);
  params.row_stats = r_in.data_ptr<float>();
  params.initial = initial.view(), params.dfinal = dfinal.view();
  if (initial.state.defined()) params.dinitial = dinitial.view();
  params.states = pointer(chunk_states);
  at::Tensor dlog_g = none;
  if (gates.defined()) {
    dlog_g = at::empty({p.batch, p.key_len, p.heads}, gates.options());
    params.dlog_g = dlog_g.data_ptr<float>();
    params.dlog_g_batch = dlog_g.stride(0);
    params.dlog_g_token = dlog_g.stride(1);
    params.dlog_g_head = dlog_g.stride(2);
  }
  const at::Tensor scratch = workspace(kernels::backward_workspace_bytes(params), q);
  params.workspace = pointer(scratch);
  params.stream = c10::cuda::getCurrentCUDAStream().stream();
  kernels::power_attention_backward(params);
  const at::ScalarType given_dtype = q.scalar_type();
  return {dq.to(given_dtype), dk.to(given_dtype), dv.to(given_dtype), dlog_g, dinitial.state, dinitial.key_sum};
}

}  // namespace power::ops::cuda
