#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "ops/autograd/saved.h"
#include "ops/dispatch.h"

// Autograd key of the low-level operators: each calls itself below autograd, and its backward operator.
namespace power::ops::autograd {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

at::Tensor if_given(const at::Tensor& input, const at::Tensor& gradient) {
  return input.defined() ? gradient : at::Tensor();
}

void save_options(AutogradContext* ctx, int64_t degree, OptDouble scale, OptInt chunk_size) {
  ctx->saved_data["degree"] = degree;
  ctx->saved_data["scale"] = scale;
  ctx->saved_data["chunk_size"] = chunk_size;
  ctx->set_materialize_grads(false);
}
int64_t degree_of(AutogradContext* ctx) { return ctx->saved_data["degree"].toInt(); }
OptDouble scale_of(AutogradContext* ctx) { return ctx->saved_data["scale"].toOptional<double>(); }
OptInt chunk_size_of(AutogradContext* ctx) { return ctx->saved_data["chunk_size"].toOptional<int64_t>(); }

struct Attention : Function<Attention> {
  static variable_list forward(AutogradContext* ctx, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                               const OptTensor& log_g, int64_t degree, OptDouble scale, bool normalize) {
    at::AutoDispatchBelowADInplaceOrView below_autograd;
    static const auto op = find_op<AttentionSignature>("power_attention::attention");
    auto [y, l] = op.call(q, k, v, log_g, degree, scale, normalize);
    ctx->save_for_backward({q, k, v, value_or_undefined(log_g), y, l});
    save_options(ctx, degree, scale, {});
    ctx->saved_data["normalize"] = normalize;
    return {y, l};
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const variable_list saved = ctx->get_saved_variables();
    static const auto op = find_op<AttentionBackwardSignature>("power_attention::attention_backward");
    auto [dq, dk, dv, dlog_g] = op.call(defined_or_none(grads[0]), defined_or_none(grads[1]), saved[0], saved[1],
                                        saved[2], defined_or_none(saved[3]), saved[4], saved[5], degree_of(ctx),
                                        scale_of(ctx), ctx->saved_data["normalize"].toBool());
    return {dq, dk, dv, if_given(saved[3], dlog_g), {}, {}, {}};
  }
};

struct UpdateState : Function<UpdateState> {
  static variable_list forward(AutogradContext* ctx, const at::Tensor& k, const at::Tensor& v, const OptTensor& log_g,
                               int64_t degree, OptInt chunk_size) {
    at::AutoDispatchBelowADInplaceOrView below_autograd;
    static const auto op = find_op<UpdateStateSignature>("power_attention::update_state");
    auto [state, key_sum] = op.call(k, v, log_g, degree, chunk_size);
    ctx->save_for_backward({k, v, value_or_undefined(log_g)});
    save_options(ctx, degree, {}, chunk_size);
    return {state, key_sum};
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const variable_list saved = ctx->get_saved_variables();
    static const auto op = find_op<UpdateStateBackwardSignature>("power_attention::update_state_backward");
    auto [dk, dv, dlog_g] = op.call(defined_or_none(grads[0]), defined_or_none(grads[1]), saved[0], saved[1],
                                    defined_or_none(saved[2]), degree_of(ctx), chunk_size_of(ctx));
    return {dk, dv, if_given(saved[2], dlog_g), {}, {}};
  }
};

struct Discumsum : Function<Discumsum> {
  static variable_list forward(AutogradContext* ctx, const at::Tensor& x, const OptTensor& log_decay,
                               const OptTensor& initial) {
    at::AutoDispatchBelowADInplaceOrView below_autograd;
    static const auto op = find_op<DiscumsumSignature>("power_attention::discumsum");
    auto [before, last] = op.call(x, log_decay, initial);
    ctx->save_for_backward({before, value_or_undefined(log_decay), value_or_undefined(initial)});
    ctx->set_materialize_grads(false);
    return {before, last};
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const variable_list saved = ctx->get_saved_variables();
    static const auto op = find_op<DiscumsumBackwardSignature>("power_attention::discumsum_backward");
    auto [dx, dlog_decay, dinitial] =
        op.call(defined_or_none(grads[0]), defined_or_none(grads[1]), saved[0], defined_or_none(saved[1]));
    return {dx, if_given(saved[1], dlog_decay), if_given(saved[2], dinitial)};
  }
};

struct QueryState : Function<QueryState> {
  static variable_list forward(AutogradContext* ctx, const at::Tensor& q, const at::Tensor& state,
                               const at::Tensor& key_sum, const OptTensor& log_g, int64_t degree, OptDouble scale,
                               OptInt chunk_size) {
    at::AutoDispatchBelowADInplaceOrView below_autograd;
    static const auto op = find_op<QueryStateSignature>("power_attention::query_state");
    auto [y, l] = op.call(q, state, key_sum, log_g, degree, scale, chunk_size);
    ctx->save_for_backward({q, state, key_sum, value_or_undefined(log_g)});
    save_options(ctx, degree, scale, chunk_size);
    return {y, l};
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const variable_list saved = ctx->get_saved_variables();
    static const auto op = find_op<QueryStateBackwardSignature>("power_attention::query_state_backward");
    auto [dq, dstate, dkey_sum, dlog_g] =
        op.call(defined_or_none(grads[0]), defined_or_none(grads[1]), saved[0], saved[1], saved[2],
                defined_or_none(saved[3]), degree_of(ctx), scale_of(ctx), chunk_size_of(ctx));
    return {dq, dstate, dkey_sum, if_given(saved[3], dlog_g), {}, {}, {}};
  }
};

template <class F, class... Args>
Tensor2 apply(const Args&... args) {
  auto out = F::apply(args...);
  return {out[0], out[1]};
}

Tensor2 attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const OptTensor& log_g, int64_t degree,
                  OptDouble scale, bool normalize) {
  return apply<Attention>(q, k, v, log_g, degree, scale, normalize);
}
Tensor2 update_state(const at::Tensor& k, const at::Tensor& v, const OptTensor& log_g, int64_t degree,
                     OptInt chunk_size) {
  return apply<UpdateState>(k, v, log_g, degree, chunk_size);
}
Tensor2 discumsum(const at::Tensor& x, const OptTensor& log_decay, const OptTensor& initial) {
  return apply<Discumsum>(x, log_decay, initial);
}
Tensor2 query_state(const at::Tensor& q, const at::Tensor& state, const at::Tensor& key_sum, const OptTensor& log_g,
                    int64_t degree, OptDouble scale, OptInt chunk_size) {
  return apply<QueryState>(q, state, key_sum, log_g, degree, scale, chunk_size);
}

}  // namespace

TORCH_LIBRARY_IMPL(power_attention, Autograd, m) {
  m.impl("attention", attention);
  m.impl("update_state", update_state);
  m.impl("discumsum", discumsum);
  m.impl("query_state", query_state);
  for (const char* name :
       {"attention_backward", "update_state_backward", "discumsum_backward", "query_state_backward"}) {
    m.impl(name, torch::autograd::autogradNotImplementedFallback());
  }
}

}  // namespace power::ops::autograd
