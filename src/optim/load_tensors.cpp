#include "optim/load_tensors.h"

#include <torch/utils.h>

#include "core/error.h"

namespace power::optim {

void load_tensors(const NamedTensors& to, const NamedTensors& from, const std::string& what) {
  const torch::NoGradGuard no_grad;
  for (const auto& item : to) {
    const torch::Tensor* found = from.find(item.key());
    require(found != nullptr, ErrorKind::kData, what, " has no tensor ", item.key(),
            ": it belongs to another model, or is incomplete");
    require(found->sizes() == item.value().sizes() && found->scalar_type() == item.value().scalar_type(),
            ErrorKind::kData,
            c10::str(what, ": tensor ", item.key(), " is ", found->scalar_type(), " of shape ", found->sizes(),
                     ", this model needs ", item.value().scalar_type(), " of shape ", item.value().sizes()));
  }
  for (const auto& item : from) {
    require(to.contains(item.key()), ErrorKind::kData, what, " has a tensor ", item.key(),
            " that this model does not: it belongs to another model");
  }
  for (const auto& item : to) item.value().copy_(*from.find(item.key()));
}

}  // namespace power::optim
