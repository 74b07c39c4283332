#pragma once

#include <c10/util/Exception.h>

#include "core/str.h"

namespace power::ops {

// A wrong argument is a c10::ValueError, which Python shows as its ValueError: no exception type of our own leaves the
// library towards PyTorch.
template <class... Args>
void check_argument(bool condition, const Args&... message) {
  TORCH_CHECK_VALUE(condition, power::str(message...));
}

template <class... Args>
[[noreturn]] void fail_argument(const Args&... message) {
  C10_THROW_ERROR(ValueError, power::str(message...));
}

}  // namespace power::ops
