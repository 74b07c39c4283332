#include "optim/loss_scale.h"

#include "optim/load_tensors.h"

namespace power::optim {
namespace {

constexpr double kGrowthFactor = 2.0;
constexpr double kBackoffFactor = 0.5;

}  // namespace

LossScaler::LossScaler(torch::Device device, double initial_scale, int64_t growth_interval)
    : scale_(torch::full({}, initial_scale, torch::TensorOptions().dtype(torch::kFloat32).device(device))),
      growth_tracker_(torch::zeros({}, torch::TensorOptions().dtype(torch::kInt32).device(device))),
      growth_interval_(growth_interval) {}

void LossScaler::update(const torch::Tensor& found_inf) {
  at::_amp_update_scale_(scale_, growth_tracker_, found_inf, kGrowthFactor, kBackoffFactor, growth_interval_);
}

NamedTensors LossScaler::state() const {
  NamedTensors state;
  state.insert("loss_scale", scale_);
  state.insert("growth_tracker", growth_tracker_);
  return state;
}

void LossScaler::load_state(const NamedTensors& from) { load_tensors(state(), from, "loss scale"); }

}  // namespace power::optim
