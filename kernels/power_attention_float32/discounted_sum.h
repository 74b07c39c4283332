#pragma once

#include "kernels/power_attention_float32/state_ops.h"

namespace power::kernels::float32 {

inline constexpr int kDiscountedThreads = 256, kDiscountedWarps = kDiscountedThreads / 32;
inline constexpr int kDiscountedElements = 4;  // of a thread, kDiscountedThreads apart

void run_discounted_sum(const DiscountedSum& params);
void run_discounted_sum_backward(const DiscountedSumBackward& params);

}  // namespace power::kernels::float32
