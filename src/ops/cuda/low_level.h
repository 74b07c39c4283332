#pragma once

#include "ops/dispatch.h"

// The low-level operators of ops.h on CUDA: the float32 kernels where they serve (inputs of half precision converted),
// else the composed forms. Arguments as in schema.cpp.
namespace power::ops::cuda {

Tensor2 attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const OptTensor& log_g, int64_t degree,
                  OptDouble scale, bool normalize);
Tensor4 attention_backward(const OptTensor& dy, const OptTensor& dl, const at::Tensor& q, const at::Tensor& k,
                           const at::Tensor& v, const OptTensor& log_g, const at::Tensor& y, const at::Tensor& l,
                           int64_t degree, OptDouble scale, bool normalize);

Tensor2 update_state(const at::Tensor& k, const at::Tensor& v, const OptTensor& log_g, int64_t degree,
                     OptInt chunk_size);
Tensor3 update_state_backward(const OptTensor& dstate, const OptTensor& dkey_sum, const at::Tensor& k,
                              const at::Tensor& v, const OptTensor& log_g, int64_t degree, OptInt chunk_size);

Tensor2 discumsum(const at::Tensor& x, const OptTensor& log_decay, const OptTensor& initial);
Tensor3 discumsum_backward(const OptTensor& dbefore, const OptTensor& dlast, const at::Tensor& before,
                           const OptTensor& log_decay);

Tensor2 query_state(const at::Tensor& q, const at::Tensor& state, const at::Tensor& key_sum, const OptTensor& log_g,
                    int64_t degree, OptDouble scale, OptInt chunk_size);
Tensor4 query_state_backward(const OptTensor& dy, const OptTensor& dl, const at::Tensor& q, const at::Tensor& state,
                             const at::Tensor& key_sum, const OptTensor& log_g, int64_t degree, OptDouble scale,
                             OptInt chunk_size);

}  // namespace power::ops::cuda
