#pragma once

#include <cstdint>

namespace power::kernels {

// Division of 0 <= n < 2^31 by a run-time constant with one multiply and one shift (Granlund and Montgomery 1994).
struct FastDivisor {
  uint32_t divisor = 1, multiplier = 0, shift = 0;

  FastDivisor() = default;
  explicit FastDivisor(uint32_t d) : divisor(d) {
    if (d == 1) return;
    while ((1u << shift) < d) ++shift;  // 2^(shift-1) < d <= 2^shift
    --shift;
    multiplier = static_cast<uint32_t>(((uint64_t{1} << (32 + shift)) + d - 1) / d);
  }
};

}  // namespace power::kernels
