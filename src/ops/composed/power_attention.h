#pragma once

#include <tuple>

#include "ops/problem.h"

// The whole operator out of LibTorch products, on any device: the quadratic and the chunked form, forward and backward.
// Nothing of size T x T is kept, and temporaries stay linear in the length.
namespace power::ops::composed {

struct Forward {
  at::Tensor y, state, key_sum, r;
};
Forward power_attention_forward(const Problem& problem, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                const OptTensor& log_g, const OptTensor& initial_state,
                                const OptTensor& initial_key_sum);

struct Backward {
  at::Tensor dq, dk, dv, dlog_g, dinitial_state, dinitial_key_sum;
};
Backward power_attention_backward(const Problem& problem, const at::Tensor& dy, const OptTensor& dstate,
                                  const OptTensor& dkey_sum, const at::Tensor& q, const at::Tensor& k,
                                  const at::Tensor& v, const OptTensor& log_g, const OptTensor& initial_state,
                                  const OptTensor& initial_key_sum, const at::Tensor& y, const at::Tensor& r);

}  // namespace power::ops::composed
