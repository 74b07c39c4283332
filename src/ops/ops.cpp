#include "ops/ops.h"

#include <ATen/ATen.h>

#include "ops/decode.h"
#include "ops/dispatch.h"

namespace power::ops {

std::tuple<at::Tensor, at::Tensor, at::Tensor> power_attention(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const OptTensor& log_g,
    const OptTensor& initial_state, const OptTensor& initial_key_sum, int64_t degree, std::optional<double> scale,
    std::optional<int64_t> chunk_size, const std::string& normalize, bool return_state) {
  static const auto op = find_op<PowerAttentionSignature>("power_attention::power_attention");
  return op.call(q, k, v, log_g, initial_state, initial_key_sum, degree, scale, chunk_size, normalize, return_state);
}

at::Tensor power_attention_step(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const OptTensor& log_g,
                                StepState& past, int64_t degree, std::optional<double> scale, int64_t switch_over,
                                const std::string& normalize) {
  const bool fresh = !past.state.defined() && !past.cache_k.defined();
  if (past.decode_cache.defined() || (fresh && decode_serves(q, k, v, degree, switch_over))) {
    return decode_with_cache(q, k, v, log_g, past.decode_cache, degree, scale, switch_over, normalize);
  }
  static const auto op = find_op<PowerAttentionStepSignature>("power_attention::power_attention_step");
  const auto given = [](const at::Tensor& t) { return t.defined() ? OptTensor(t) : OptTensor(); };
  auto [y, state, key_sum, cache_k, cache_v, cache_log_g] =
      op.call(q, k, v, log_g, given(past.state), given(past.key_sum), given(past.cache_k), given(past.cache_v),
              given(past.cache_log_g), degree, scale, switch_over, normalize);
  if (state.numel() > 0) {  // else unchanged
    past.state = state;
    past.key_sum = key_sum;
  }
  past.cache_k = cache_k;
  past.cache_v = cache_v;
  past.cache_log_g = log_g.has_value() ? cache_log_g : at::Tensor();
  return y;
}

std::tuple<at::Tensor, at::Tensor> attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                             const OptTensor& log_g, int64_t degree, std::optional<double> scale,
                                             bool normalize) {
  static const auto op = find_op<AttentionSignature>("power_attention::attention");
  return op.call(q, k, v, log_g, degree, scale, normalize);
}

std::tuple<at::Tensor, at::Tensor> update_state(const at::Tensor& k, const at::Tensor& v, const OptTensor& log_g,
                                                int64_t degree, std::optional<int64_t> chunk_size) {
  static const auto op = find_op<UpdateStateSignature>("power_attention::update_state");
  return op.call(k, v, log_g, degree, chunk_size);
}

std::tuple<at::Tensor, at::Tensor> discumsum(const at::Tensor& x, const OptTensor& log_decay,
                                             const OptTensor& initial) {
  static const auto op = find_op<DiscumsumSignature>("power_attention::discumsum");
  return op.call(x, log_decay, initial);
}

std::tuple<at::Tensor, at::Tensor> query_state(const at::Tensor& q, const at::Tensor& state, const at::Tensor& key_sum,
                                               const OptTensor& log_g, int64_t degree, std::optional<double> scale,
                                               std::optional<int64_t> chunk_size) {
  static const auto op = find_op<QueryStateSignature>("power_attention::query_state");
  return op.call(q, state, key_sum, log_g, degree, scale, chunk_size);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> make_inputs(int64_t batch, int64_t seq_len, int64_t heads,
                                                                       int64_t head_dim, int64_t group,
                                                                       at::ScalarType dtype, bool gated, int64_t seed,
                                                                       std::optional<at::Device> device) {
  static const auto op = find_op<MakeInputsSignature>("power_attention::make_inputs");
  return op.call(batch, seq_len, heads, head_dim, group, dtype, gated, seed, device);
}

}  // namespace power::ops
