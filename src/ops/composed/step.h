#pragma once

#include "ops/dispatch.h"

namespace power::ops::composed {

// The inference step of ops.h out of the whole operator: exact for any number of new tokens.
Tensor6 power_attention_step(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const OptTensor& log_g,
                             const OptTensor& state, const OptTensor& key_sum, const OptTensor& cache_k,
                             const OptTensor& cache_v, const OptTensor& cache_log_g, int64_t degree, OptDouble scale,
                             int64_t switch_over, std::string_view normalize);

}  // namespace power::ops::composed
