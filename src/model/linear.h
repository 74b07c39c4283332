#pragma once

#include <torch/types.h>

namespace power::model {

// Weight and bias of a linear map, a layer norm or an embedding. `weight` and `bias` are the parameters; `cast` is the
// weight in the compute dtype (the weight itself where the two are the same), made once per forward pass.
struct Affine {
  torch::Tensor weight, bias;  // bias undefined: none
  torch::Tensor cast;
};

// x (...,in) -> (...,out) in the dtype of x, which is that of `affine.cast`. The gradients of weight and bias arrive in
// the parameters' dtype: on CUDA the product accumulates in float32 and is never rounded to the compute dtype.
torch::Tensor linear(const torch::Tensor& x, const Affine& affine);

// Layer norm over the last dimension, eps 1e-5, in the dtype of x.
torch::Tensor layer_norm(const torch::Tensor& x, const Affine& affine);

// a^T (n,m) @ b (n,k) -> (m,k) in `dtype`, for a and b of a narrower dtype without rounding to it where the device can.
torch::Tensor transposed_product(const torch::Tensor& a, const torch::Tensor& b, torch::Dtype dtype);

}  // namespace power::model
