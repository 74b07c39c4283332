#pragma once

#include <ATen/core/Tensor.h>

#include "ops/dispatch.h"

// Optional tensors on their way through save_for_backward, which keeps plain ones.
namespace power::ops::autograd {

inline at::Tensor value_or_undefined(const OptTensor& t) { return t.has_value() ? *t : at::Tensor(); }
inline OptTensor defined_or_none(const at::Tensor& t) { return t.defined() ? OptTensor(t) : OptTensor(); }

}  // namespace power::ops::autograd
