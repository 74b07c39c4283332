#pragma once

#include "ops/dispatch.h"

// The fused kernels of kernels/ behind the operator, quadratic and chunked form: bf16 and fp16 (through bf16), with
// states of degrees 1 and 2 and chunks of a multiple of 64 keys; float32, and through it what bf16 and fp16 lack.
// Forward and backward must be asked alike: r and chunk_states are theirs.
namespace power::ops::cuda {

bool attention_kernel_serves(const Problem& problem, const at::Tensor& q, bool has_initial_state);

struct KernelForward {
  at::Tensor y, r;
  at::Tensor state, key_sum;  // zero elements where not asked for
  at::Tensor chunk_states;    // zero elements in the quadratic form, and where the backward pass makes them again
};
KernelForward attention_kernel_forward(const Problem& problem, const at::Tensor& q, const at::Tensor& k,
                                       const at::Tensor& v, const OptTensor& log_g, const OptTensor& initial_state,
                                       const OptTensor& initial_key_sum);

struct KernelBackward {
  at::Tensor dq, dk, dv, dlog_g, dinitial_state, dinitial_key_sum;  // zero elements where the input is absent
};
KernelBackward attention_kernel_backward(const Problem& problem, const at::Tensor& dy, const OptTensor& dstate,
                                         const OptTensor& dkey_sum, const at::Tensor& q, const at::Tensor& k,
                                         const at::Tensor& v, const OptTensor& log_g, const OptTensor& initial_state,
                                         const OptTensor& initial_key_sum, const at::Tensor& y, const at::Tensor& r,
                                         const at::Tensor& chunk_states);

}  // namespace power::ops::cuda
