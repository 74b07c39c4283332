#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/ScalarType.h>

#include <cstdint>
#include <optional>
#include <string>
#include <tuple>

// Symmetric power attention as PyTorch operators (namespace power_attention in the dispatcher). These functions call
// the dispatcher, so autograd, autocast and the device's implementation apply. docs/operator.md has the mathematics.
//
// Shapes: q (B,TQ,HQ,D); k (B,TK,H,D); v (B,TK,H,E); log_g (B,TK,H), natural log, <= 0, -inf starts a segment.
// HQ = R*H; query head hq reads kv head hq / R. Query i stands at key position TK-TQ+i (causal).
// state (B,H,F,E), key_sum (B,H,F), F = C(D+degree-1, degree): layout sym-lex/1, multiplicity on the state side, no
// scale inside; float32 (float64 for float64 inputs).
namespace power::ops {

using OptTensor = std::optional<at::Tensor>;

// chunk_size of power_attention: std::nullopt chooses the form by shape and dtype, 0 is the quadratic form, n > 0 the
// chunked form.
inline constexpr int64_t kQuadraticForm = 0;

// The whole operator. Returns y (B,TQ,HQ,E), and with return_state the state and key sum after the last key (tensors of
// zero elements otherwise). scale defaults to 1/sqrt(D); normalize is "sum", "layer" or "none".
std::tuple<at::Tensor, at::Tensor, at::Tensor> power_attention(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const OptTensor& log_g,
    const OptTensor& initial_state = {}, const OptTensor& initial_key_sum = {}, int64_t degree = 2,
    std::optional<double> scale = {}, std::optional<int64_t> chunk_size = {}, const std::string& normalize = "sum",
    bool return_state = false);

// What power_attention_step carries from call to call. Undefined tensors stand for "nothing yet".
struct StepState {
  at::Tensor state;        // (B,H,F,E)
  at::Tensor key_sum;      // (B,H,F)
  at::Tensor cache_k;      // (B,C,H,D), the newest C < switch_over tokens, not yet in the state
  at::Tensor cache_v;      // (B,C,H,E)
  at::Tensor cache_log_g;  // (B,C,H)
  // All of the above in one, where the CUDA kernels serve: what decode_step changes in place.
  at::Tensor decode_cache;  // (B,H,bytes) uint8
};

// Inference: TQ >= 1 new tokens (q, k, v, log_g of equal length) against `past`, which is updated. The cache is folded
// into the state when it reaches switch_over tokens. No gradients. On CUDA, bf16 and fp16 inputs run as one kernel
// (fp16 through bf16) where degree, head dim and switch_over allow it: 1 or 2, multiples of 8 up to 128, multiples of
// 16 up to 256.
at::Tensor power_attention_step(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const OptTensor& log_g,
                                StepState& past, int64_t degree = 2, std::optional<double> scale = {},
                                int64_t switch_over = 256, const std::string& normalize = "sum");

// The parts of the operator, each with gradients. Results that are not normalised are float32 (float64 for float64).
//
// The quadratic form: y (B,TQ,HQ,E) and l_i = sum_j w_ij (B,TQ,HQ); without `normalize` y is the numerator.
std::tuple<at::Tensor, at::Tensor> attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                             const OptTensor& log_g, int64_t degree = 2,
                                             std::optional<double> scale = {}, bool normalize = true);

// What each chunk alone adds to the state, discounted to the chunk's end: state (B,N,H,F,E), key_sum (B,N,H,F), for
// N = ceil(T / chunk_size) chunks (one without chunk_size; the last may be shorter).
std::tuple<at::Tensor, at::Tensor> update_state(const at::Tensor& k, const at::Tensor& v, const OptTensor& log_g,
                                                int64_t degree = 2, std::optional<int64_t> chunk_size = {});

// Discounted cumulative sum over chunks: x (B,N,H,...) and log_decay (B,N,H), the sum of each chunk's log gates, give
// the value before each chunk (B,N,H,...) and the one after the last (B,H,...), starting from `initial` or zero.
std::tuple<at::Tensor, at::Tensor> discumsum(const at::Tensor& x, const OptTensor& log_decay = {},
                                             const OptTensor& initial = {});

// What the states before each chunk, state (B,N,H,F,E) and key_sum (B,N,H,F), give the chunk's queries: numerator y
// (B,T,HQ,E) and denominator l (B,T,HQ), scale and gates included. Added to those of `attention` inside the chunk
// (normalize false), y / l is the operator's result.
std::tuple<at::Tensor, at::Tensor> query_state(const at::Tensor& q, const at::Tensor& state, const at::Tensor& key_sum,
                                               const OptTensor& log_g, int64_t degree = 2,
                                               std::optional<double> scale = {},
                                               std::optional<int64_t> chunk_size = {});

// q, k, v = randn / sqrt(D), log_g = logsigmoid(6.906768 + randn) (zero elements when not gated); q has heads * group
// heads. The same values on every device, up to rounding to dtype.
std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> make_inputs(int64_t batch, int64_t seq_len, int64_t heads,
                                                                       int64_t head_dim, int64_t group = 1,
                                                                       at::ScalarType dtype = at::kFloat,
                                                                       bool gated = true, int64_t seed = 0,
                                                                       std::optional<at::Device> device = {});

}  // namespace power::ops
