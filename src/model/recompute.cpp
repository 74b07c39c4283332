#include "model/recompute.h"

#include <ATen/Context.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/utils.h>

#include <mutex>

namespace power::model {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct Capsule : torch::CustomClassHolder {
  TensorFunction function;
  std::vector<bool> needs_gradient;
};

at::Generator generator_of(torch::Device device) { return at::globalContext().defaultGenerator(device); }

Tensor random_state(torch::Device device) {
  at::Generator generator = generator_of(device);
  const std::lock_guard<std::mutex> lock(generator.mutex());
  return generator.get_state();
}

void set_random_state(torch::Device device, const Tensor& state) {
  at::Generator generator = generator_of(device);
  const std::lock_guard<std::mutex> lock(generator.mutex());
  generator.set_state(state);
}

// Goes back to an earlier state of the device's generator, and to the present one at the end of the scope.
class RandomStateScope {
 public:
  RandomStateScope(torch::Device device, const Tensor& state) : device_(device), state_(state) {
    if (!state.defined()) return;
    present_ = random_state(device);
    set_random_state(device, state);
  }
  ~RandomStateScope() {
    if (state_.defined()) set_random_state(device_, present_);
  }
  RandomStateScope(const RandomStateScope&) = delete;
  RandomStateScope& operator=(const RandomStateScope&) = delete;

 private:
  torch::Device device_;
  Tensor state_, present_;
};

class Recompute : public torch::autograd::Function<Recompute> {
 public:
  // at::TensorList, because apply() takes the tensors in it for inputs of the node; those in a std::vector it would
  // not.
  static Tensor forward(AutogradContext* ctx, at::TensorList list, const TensorFunction& function, bool random) {
    const std::vector<Tensor> inputs = list.vec();
    auto capsule = c10::make_intrusive<Capsule>();
    capsule->function = function;
    for (const Tensor& x : inputs) capsule->needs_gradient.push_back(x.requires_grad());
    ctx->saved_data["capsule"] = c10::IValue::make_capsule(capsule);
    if (random) ctx->saved_data["random_state"] = random_state(inputs[0].device());
    ctx->save_for_backward(inputs);
    return function(inputs);
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto capsule = c10::static_intrusive_pointer_cast<Capsule>(ctx->saved_data["capsule"].toCapsule());
    const auto random = ctx->saved_data.find("random_state");
    variable_list inputs, wanted;
    for (const Tensor& saved : ctx->get_saved_variables()) {
      const bool needs_gradient = capsule->needs_gradient[inputs.size()];
      inputs.push_back(saved.detach().set_requires_grad(needs_gradient));
      if (needs_gradient) wanted.push_back(inputs.back());
    }
    Tensor out;
    {
      const torch::AutoGradMode with_graph(true);
      const RandomStateScope scope(inputs[0].device(),
                                   random == ctx->saved_data.end() ? Tensor() : random->second.toTensor());
      out = capsule->function(inputs);
    }
    const variable_list found = torch::autograd::grad({out}, wanted, grads, /*retain_graph=*/false,
                                                      /*create_graph=*/false, /*allow_unused=*/true);
    variable_list result;
    size_t next = 0;
    for (const bool needs_gradient : capsule->needs_gradient) {
      result.push_back(needs_gradient ? found[next++] : Tensor());
    }
    result.resize(result.size() + 2);  // function, random
    return result;
  }
};

}  // namespace

Tensor recompute(const TensorFunction& function, const std::vector<Tensor>& inputs, bool random) {
  return Recompute::apply(at::TensorList(inputs), function, random);
}

}  // namespace power::model
