#include "optim/adamw.h"

#include <torch/utils.h>

#include "core/error.h"
#include "optim/load_tensors.h"

namespace power::optim {

using torch::Tensor;

AdamW::AdamW(const NamedTensors& parameters, const AdamWOptions& options) : options_(options) {
  require(!parameters.is_empty(), ErrorKind::kRuntime, "AdamW was given no parameters");
  const torch::NoGradGuard no_grad;
  const torch::Device device = parameters[0].value().device();
  const auto scalar = torch::TensorOptions().device(device);
  step_ = torch::zeros({}, scalar.dtype(torch::kFloat32));
  skipped_total_ = torch::zeros({}, scalar.dtype(torch::kInt64));
  skipped_in_a_row_ = torch::zeros({}, scalar.dtype(torch::kInt64));
  groups_.resize(2);
  groups_[0].weight_decay = options.weight_decay;
  for (const auto& item : parameters) {
    const Tensor& parameter = item.value();
    names_.push_back(item.key());
    parameters_.push_back(parameter);
    exp_avg_.push_back(torch::zeros_like(parameter));
    exp_avg_sq_.push_back(torch::zeros_like(parameter));
    Group& group = groups_[parameter.dim() >= 2 ? 0 : 1];
    group.parameters.push_back(parameter);
    group.exp_avg.push_back(exp_avg_.back());
    group.exp_avg_sq.push_back(exp_avg_sq_.back());
    group.steps.push_back(step_);
  }
}

std::vector<Tensor> AdamW::gradients() const {
  std::vector<Tensor> gradients;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    require(parameters_[i].grad().defined(), ErrorKind::kRuntime, "parameter ", names_[i],
            " has no gradient: it took no part in the loss, or backward() did not run");
    gradients.push_back(parameters_[i].grad());
  }
  return gradients;
}

void AdamW::zero_grad() {
  for (Tensor& parameter : parameters_) parameter.mutable_grad().reset();
}

void AdamW::step(double learning_rate, const Tensor& found_inf) {
  const torch::NoGradGuard no_grad;
  gradients();  // for its check
  if (found_inf.defined()) {
    const Tensor skipped = found_inf.to(torch::kInt64);
    skipped_total_.add_(skipped);
    skipped_in_a_row_.add_(1).mul_(skipped);
    step_.add_(1 - found_inf);
  } else {
    skipped_in_a_row_.zero_();
    step_.add_(1);
  }
  for (Group& group : groups_) update(group, learning_rate, found_inf);
}

void AdamW::update(Group& group, double learning_rate, const Tensor& found_inf) {
  if (group.parameters.empty()) return;
  std::vector<Tensor> gradients;
  for (const Tensor& parameter : group.parameters) gradients.push_back(parameter.grad());
  at::_fused_adamw_(group.parameters, gradients, group.exp_avg, group.exp_avg_sq, /*max_exp_avg_sqs=*/{}, group.steps,
                    learning_rate, options_.beta1, options_.beta2, group.weight_decay, options_.eps, /*amsgrad=*/false,
                    /*maximize=*/false, /*grad_scale=*/{},
                    found_inf.defined() ? std::optional<Tensor>(found_inf) : std::nullopt);
}

NamedTensors AdamW::state() const {
  NamedTensors state;
  for (size_t i = 0; i < names_.size(); ++i) {
    state.insert("exp_avg." + names_[i], exp_avg_[i]);
    state.insert("exp_avg_sq." + names_[i], exp_avg_sq_[i]);
  }
  state.insert("step", step_);
  state.insert("skipped_total", skipped_total_);
  state.insert("skipped_in_a_row", skipped_in_a_row_);
  return state;
}

void AdamW::load_state(const NamedTensors& from) { load_tensors(state(), from, "optimizer state"); }

}  // namespace power::optim
