#pragma once

#include <string>

#include "optim/adamw.h"

namespace power::optim {

// Copies `from` into the tensors of `to` of the same names, across devices. Throws Error(kData), naming `what` and the
// tensor and before anything is copied, where one is missing, of another shape or dtype, or left over.
void load_tensors(const NamedTensors& to, const NamedTensors& from, const std::string& what);

}  // namespace power::optim
