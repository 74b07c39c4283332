#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "ops/problem.h"

// Decoding with a cache of constant size: what a build without CUDA kernels answers as well.
namespace power::ops {

// Why the kernels cannot keep such a cache; empty where they can.
std::string decode_unsupported(int64_t head_dim, int64_t degree, int64_t window);
// Bytes of one (sequence, kv head); throws Error(kUsage) where they cannot.
int64_t decode_record_bytes(int64_t head_dim, int64_t degree, int64_t window);

// Whether decode_step takes these tensors.
bool decode_serves(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, int64_t degree, int64_t window);

// decode_step through the dispatcher, with a cache that is made where `cache` is undefined.
at::Tensor decode_with_cache(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const OptTensor& log_g,
                             at::Tensor& cache, int64_t degree, std::optional<double> scale, int64_t window,
                             const std::string& normalize);

}  // namespace power::ops
