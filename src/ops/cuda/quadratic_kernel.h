#pragma once

#include "ops/dispatch.h"

// The fused kernels of kernels/power_attention behind the operator: bf16 and fp16 (through bf16), quadratic form, no
// states. Forward and backward must be asked alike: r is theirs.
namespace power::ops::cuda {

bool quadratic_kernel_serves(const Problem& problem, const at::Tensor& q, bool has_initial_state);

struct QuadraticForward {
  at::Tensor y, r;
};
QuadraticForward quadratic_forward(const Problem& problem, const at::Tensor& q, const at::Tensor& k,
                                   const at::Tensor& v, const OptTensor& log_g);

struct QuadraticBackward {
  at::Tensor dq, dk, dv, dlog_g;  // dlog_g undefined without gates
};
QuadraticBackward quadratic_backward(const Problem& problem, const at::Tensor& dy, const at::Tensor& q,
                                     const at::Tensor& k, const at::Tensor& v, const OptTensor& log_g,
                                     const at::Tensor& y, const at::Tensor& r);

}  // namespace power::ops::cuda
