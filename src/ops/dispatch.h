#pragma once

#include <ATen/core/dispatch/Dispatcher.h>

#include <optional>
#include <string_view>
#include <tuple>

#include "ops/problem.h"

// Signatures of the operators, and typed handles to them. The order of arguments is that of schema.cpp.
namespace power::ops {

using Tensor2 = std::tuple<at::Tensor, at::Tensor>;
using Tensor3 = std::tuple<at::Tensor, at::Tensor, at::Tensor>;
using Tensor4 = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>;
using Tensor5 = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>;
using Tensor6 = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>;
using OptDouble = std::optional<double>;
using OptInt = std::optional<int64_t>;

using PowerAttentionSignature = Tensor3(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                        const OptTensor& log_g, const OptTensor& initial_state,
                                        const OptTensor& initial_key_sum, int64_t degree, OptDouble scale,
                                        OptInt chunk_size, std::string_view normalize, bool return_state);
using PowerAttentionForwardSignature = Tensor5(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                               const OptTensor& log_g, const OptTensor& initial_state,
                                               const OptTensor& initial_key_sum, int64_t degree, OptDouble scale,
                                               OptInt chunk_size, std::string_view normalize, bool return_state);
using PowerAttentionBackwardSignature = Tensor6(const at::Tensor& dy, const OptTensor& dstate,
                                                const OptTensor& dkey_sum, const at::Tensor& q, const at::Tensor& k,
                                                const at::Tensor& v, const OptTensor& log_g,
                                                const OptTensor& initial_state, const OptTensor& initial_key_sum,
                                                const at::Tensor& y, const at::Tensor& r,
                                                const at::Tensor& chunk_states, int64_t degree, OptDouble scale,
                                                OptInt chunk_size, std::string_view normalize, bool return_state);
using PowerAttentionStepSignature = Tensor6(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                            const OptTensor& log_g, const OptTensor& state, const OptTensor& key_sum,
                                            const OptTensor& cache_k, const OptTensor& cache_v,
                                            const OptTensor& cache_log_g, int64_t degree, OptDouble scale,
                                            int64_t switch_over, std::string_view normalize);
using DecodeCacheSignature = at::Tensor(int64_t batch, int64_t heads, int64_t head_dim, int64_t degree, int64_t window,
                                        std::optional<at::Device> device);
using DecodeStepSignature = at::Tensor(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                       const OptTensor& log_g, at::Tensor& cache, int64_t degree, OptDouble scale,
                                       int64_t window, std::string_view normalize);
using DecodeImportSignature = void(const at::Tensor& state, const at::Tensor& key_sum, at::Tensor& cache,
                                   int64_t degree, int64_t window);
using DecodeExportSignature = Tensor2(at::Tensor& cache, int64_t head_dim, int64_t degree, int64_t window);

using AttentionSignature = Tensor2(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                   const OptTensor& log_g, int64_t degree, OptDouble scale, bool normalize);
using AttentionBackwardSignature = Tensor4(const OptTensor& dy, const OptTensor& dl, const at::Tensor& q,
                                           const at::Tensor& k, const at::Tensor& v, const OptTensor& log_g,
                                           const at::Tensor& y, const at::Tensor& l, int64_t degree, OptDouble scale,
                                           bool normalize);
using UpdateStateSignature = Tensor2(const at::Tensor& k, const at::Tensor& v, const OptTensor& log_g, int64_t degree,
                                     OptInt chunk_size);
using UpdateStateBackwardSignature = Tensor3(const OptTensor& dstate, const OptTensor& dkey_sum, const at::Tensor& k,
                                             const at::Tensor& v, const OptTensor& log_g, int64_t degree,
                                             OptInt chunk_size);
using DiscumsumSignature = Tensor2(const at::Tensor& x, const OptTensor& log_decay, const OptTensor& initial);
using DiscumsumBackwardSignature = Tensor3(const OptTensor& dbefore, const OptTensor& dlast, const at::Tensor& before,
                                           const OptTensor& log_decay);
using QueryStateSignature = Tensor2(const at::Tensor& q, const at::Tensor& state, const at::Tensor& key_sum,
                                    const OptTensor& log_g, int64_t degree, OptDouble scale, OptInt chunk_size);
using QueryStateBackwardSignature = Tensor4(const OptTensor& dy, const OptTensor& dl, const at::Tensor& q,
                                            const at::Tensor& state, const at::Tensor& key_sum, const OptTensor& log_g,
                                            int64_t degree, OptDouble scale, OptInt chunk_size);
using MakeInputsSignature = Tensor4(int64_t batch, int64_t seq_len, int64_t heads, int64_t head_dim, int64_t group,
                                    at::ScalarType dtype, bool gated, int64_t seed, std::optional<at::Device> device);

// Looks the operator up; callers keep the handle in a static.
template <class Signature>
c10::TypedOperatorHandle<Signature> find_op(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

}  // namespace power::ops
