#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>

namespace power::ops {

using OptTensor = std::optional<at::Tensor>;

enum class Normalize { kSum, kLayer, kNone };

// One call of the operator: its sizes and options, checked.
struct Problem {
  int64_t batch, query_len, key_len, query_heads, heads, head_dim, value_dim, degree;
  double scale;
  int64_t chunk_size;  // 0: quadratic form
  Normalize normalize;
  bool return_state;

  int64_t group() const { return query_heads / heads; }  // R
  // Values that forward keeps for backward per row: the normaliser and, above degree 2, the row's scaling.
  int64_t row_values() const { return degree > 2 ? 2 : 1; }
};

// Throws power::Error (what, found, do) on arguments that do not fit each other or are not supported.
Problem check_problem(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const OptTensor& log_g,
                      const OptTensor& initial_state, const OptTensor& initial_key_sum, int64_t degree,
                      std::optional<double> scale, std::optional<int64_t> chunk_size, const std::string& normalize,
                      bool return_state);

// Whose times decide between the forms: those of LibTorch's products, or of the CUDA kernels for 16-bit or for float32
// inputs. (Whether a kernel serves a call in the end, src/ops/cuda knows.)
enum class Backend { kComposed, kHalfKernels, kFloat32Kernels };
Backend backend_of(const Problem& problem, at::DeviceType device, at::ScalarType dtype);

// The form taken when chunk_size is not given: 0 for quadratic, else the chunk size.
int64_t choose_chunk_size(const Problem& problem, Backend backend);

}  // namespace power::ops
