#include "model/linear.h"

#include <torch/csrc/autograd/custom_function.h>

namespace power::model {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr double kLayerNormEps = 1e-5;

class MixedLinear : public torch::autograd::Function<MixedLinear> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias,
                        const Tensor& cast) {
    ctx->save_for_backward({x, cast});
    ctx->saved_data["has_bias"] = bias.has_value();
    ctx->saved_data["parameter_dtype"] = static_cast<int64_t>(weight.scalar_type());
    return at::linear(x, cast, bias ? bias->to(x.scalar_type()) : Tensor());
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    const Tensor &x = saved[0], &cast = saved[1];
    const auto dtype = static_cast<torch::Dtype>(ctx->saved_data["parameter_dtype"].toInt());
    const Tensor dy = grads[0].reshape({-1, cast.size(0)});
    Tensor dx, dweight, dbias;
    if (ctx->needs_input_grad(0)) dx = at::mm(dy, cast).view(x.sizes());
    if (ctx->needs_input_grad(1)) dweight = transposed_product(dy, x.reshape({-1, cast.size(1)}), dtype);
    if (ctx->saved_data["has_bias"].toBool()) dbias = dy.sum({0}, false, dtype);
    return {dx, dweight, dbias, Tensor()};
  }
};

}  // namespace

Tensor linear(const Tensor& x, const Affine& affine) {
  if (affine.cast.scalar_type() == affine.weight.scalar_type()) return at::linear(x, affine.weight, affine.bias);
  const auto bias = affine.bias.defined() ? std::optional(affine.bias) : std::nullopt;
  return MixedLinear::apply(x, affine.weight, bias, affine.cast);
}

Tensor layer_norm(const Tensor& x, const Affine& affine) {
  return at::layer_norm(x, {x.size(-1)}, affine.weight, affine.bias, kLayerNormEps);
}

Tensor transposed_product(const Tensor& a, const Tensor& b, torch::Dtype dtype) {
  if (a.scalar_type() == dtype) return at::mm(a.t(), b);
  if (a.is_cuda() && dtype == torch::kFloat32) return at::mm(a.t(), b, dtype);  // no such kernel on the CPU
  return at::mm(a.t(), b).to(dtype);
}

}  // namespace power::model
