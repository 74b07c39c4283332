#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "ops/autograd/saved.h"
#include "ops/dispatch.h"

namespace power::ops::autograd {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

class PowerAttentionFunction : public torch::autograd::Function<PowerAttentionFunction> {
 public:
  static variable_list forward(AutogradContext* ctx, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                               const OptTensor& log_g, const OptTensor& initial_state, const OptTensor& initial_key_sum,
                               int64_t degree, OptDouble scale, OptInt chunk_size, const std::string& normalize,
                               bool return_state) {
    at::AutoDispatchBelowADInplaceOrView below_autograd;
    static const auto op = find_op<PowerAttentionForwardSignature>("power_attention::power_attention_forward");
    auto [y, state, key_sum, r, chunk_states] =
        op.call(q, k, v, log_g, initial_state, initial_key_sum, degree, scale, chunk_size, normalize, return_state);
    ctx->save_for_backward({q, k, v, value_or_undefined(log_g), value_or_undefined(initial_state),
                            value_or_undefined(initial_key_sum), y, r, chunk_states});
    ctx->saved_data["degree"] = degree;
    ctx->saved_data["scale"] = scale;
    ctx->saved_data["chunk_size"] = chunk_size;
    ctx->saved_data["normalize"] = normalize;
    ctx->saved_data["return_state"] = return_state;
    ctx->set_materialize_grads(false);
    if (!return_state) ctx->mark_non_differentiable({state, key_sum});
    return {y, state, key_sum};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor dy = grads[0].defined() ? grads[0] : at::zeros_like(saved[6]);
    static const auto op = find_op<PowerAttentionBackwardSignature>("power_attention::power_attention_backward");
    auto [dq, dk, dv, dlog_g, dstate, dkey_sum] =
        op.call(dy, defined_or_none(grads[1]), defined_or_none(grads[2]), saved[0], saved[1], saved[2],
                defined_or_none(saved[3]), defined_or_none(saved[4]), defined_or_none(saved[5]), saved[6], saved[7],
                saved[8], ctx->saved_data["degree"].toInt(), ctx->saved_data["scale"].toOptional<double>(),
                ctx->saved_data["chunk_size"].toOptional<int64_t>(), ctx->saved_data["normalize"].toStringRef(),
                ctx->saved_data["return_state"].toBool());
    const auto present = [](const at::Tensor& input, const at::Tensor& gradient) {
      return input.defined() ? gradient : at::Tensor();
    };
    variable_list out = {dq, dk, dv, present(saved[3], dlog_g), present(saved[4], dstate), present(saved[5], dkey_sum)};
    out.resize(11);  // the options have no gradient
    return out;
  }
};

Tensor3 power_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const OptTensor& log_g,
                        const OptTensor& initial_state, const OptTensor& initial_key_sum, int64_t degree,
                        OptDouble scale, OptInt chunk_size, std::string_view normalize, bool return_state) {
  auto out = PowerAttentionFunction::apply(q, k, v, log_g, initial_state, initial_key_sum, degree, scale, chunk_size,
                                           std::string(normalize), return_state);
  return {out[0], out[1], out[2]};
}

}  // namespace

TORCH_LIBRARY_IMPL(power_attention, Autograd, m) {
  m.impl("power_attention", power_attention);
  // These carry no gradient of their own: asking for one is an error, not a silent zero.
  m.impl("power_attention_forward", torch::autograd::autogradNotImplementedFallback());
  m.impl("power_attention_backward", torch::autograd::autogradNotImplementedFallback());
  m.impl("power_attention_step", torch::autograd::autogradNotImplementedFallback());
  for (const char* op : {"decode_step", "decode_import", "decode_export"}) {
    m.impl(op, torch::autograd::autogradNotImplementedFallback());
  }
}

// What changes its cache in place raises the cache's version.
TORCH_LIBRARY_IMPL(power_attention, ADInplaceOrView, m) {
  for (const char* op : {"decode_step", "decode_import", "decode_export"}) {
    m.impl(op, torch::autograd::autogradNotImplementedInplaceOrViewFallback());
  }
}

}  // namespace power::ops::autograd
