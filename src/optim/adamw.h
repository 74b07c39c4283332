#pragma once

#include <torch/ordered_dict.h>
#include <torch/types.h>

#include <cstdint>
#include <string>
#include <vector>

namespace power::optim {

using NamedTensors = torch::OrderedDict<std::string, torch::Tensor>;

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0.1;  // on parameters of two or more dimensions; vectors are never decayed
};

// AdamW (decoupled weight decay, bias correction, eps outside the root) over at::_fused_adamw_. State is kept in the
// parameters' dtype and on their device.
class AdamW {
 public:
  // Keeps the tensors of `parameters` (handles, not copies): module->named_parameters().
  AdamW(const NamedTensors& parameters, const AdamWOptions& options);

  // One update with the parameters' .grad(). Where `found_inf` (scalar float32 on the device, see GradientNorm) is 1
  // nothing changes but the counters of skipped steps. Throws where a parameter has no gradient.
  void step(double learning_rate, const torch::Tensor& found_inf = {});
  void zero_grad();
  // The parameters' gradients, in the order of `parameters`.
  std::vector<torch::Tensor> gradients() const;

  // Scalar int64 tensors on the device: non-finite steps skipped since construction or load, and without a finite one
  // in between. Reading them waits for the device, so read them only where the loss is read.
  const torch::Tensor& skipped_total() const { return skipped_total_; }
  const torch::Tensor& skipped_in_a_row() const { return skipped_in_a_row_; }

  // For checkpoints: exp_avg.NAME, exp_avg_sq.NAME for every parameter; step, skipped_total, skipped_in_a_row. The
  // tensors are handles of the live state: copy them before the next step.
  NamedTensors state() const;
  // Copies every tensor of state() in, from any device. Throws Error(kData) where one is missing, of another shape or
  // left over.
  void load_state(const NamedTensors& state);

 private:
  // Parameters that share hyper-parameters, and so one fused call.
  struct Group {
    double weight_decay = 0;
    std::vector<torch::Tensor> parameters, exp_avg, exp_avg_sq, steps;
  };

  void update(Group& group, double learning_rate, const torch::Tensor& found_inf);

  AdamWOptions options_;
  std::vector<std::string> names_;
  std::vector<torch::Tensor> parameters_, exp_avg_, exp_avg_sq_;  // in the order of the constructor's argument
  std::vector<Group> groups_;                                     // handles of the same tensors
  torch::Tensor step_;                                            // float32 scalar, as the fused kernel reads it
  torch::Tensor skipped_total_, skipped_in_a_row_;
};

}  // namespace power::optim
