#pragma once

#include "ops/dispatch.h"

// The low-level operators of ops.h out of LibTorch products, on any device; arguments as in schema.cpp.
namespace power::ops::composed {

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

// Checks of their arguments, and what follows from them. The chunk size, at most the number of tokens.
int64_t check_chunk_size(int64_t tokens, OptInt chunk_size);
Problem check_keys(const at::Tensor& k, const at::Tensor& v, const OptTensor& log_g, int64_t degree);
Problem check_query_state(const at::Tensor& q, const at::Tensor& state, const at::Tensor& key_sum,
                          const OptTensor& log_g, int64_t degree, OptDouble scale, OptInt chunk_size);
void check_discumsum(const at::Tensor& x, const OptTensor& log_decay, const OptTensor& initial);

}  // namespace power::ops::composed
