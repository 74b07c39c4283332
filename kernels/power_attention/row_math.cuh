#pragma once

#include "kernels/common/ptx.cuh"

// What both families of kernels compute of a row of 16-bit or float32 values that lies across lanes.
namespace power::kernels {

// Sum, and largest, over the four lanes of a row of a tensor-core fragment.
POWER_DEVICE float sum_of_row(float x) {
  x += shuffle_xor(x, 1);
  return x + shuffle_xor(x, 2);
}

POWER_DEVICE float largest_of_row(float x) {
  x = fmaxf(x, shuffle_xor(x, 1));
  return fmaxf(x, shuffle_xor(x, 2));
}

// Sum over eight lanes.
POWER_DEVICE float sum_of_eight(float x) {
  x += shuffle_xor(x, 1);
  x += shuffle_xor(x, 2);
  return x + shuffle_xor(x, 4);
}

// Exponent of the largest power of two <= |x|; 0 where x is 0.
POWER_DEVICE int exponent_of(float x) {
  const int biased = static_cast<int>((__float_as_uint(x) >> 23) & 255);
  return biased == 0 ? 0 : biased - 127;
}

// 1 / (max |q_i| * max |k|) as a power of two: scores are then at most about head_dim in size.
POWER_DEVICE float row_scale_for(float query_max, float key_max) {
  const int exponent = exponent_of(query_max) + exponent_of(key_max);
  const int clamped = exponent > 100 ? 100 : (exponent < -100 ? -100 : exponent);
  return __uint_as_float(static_cast<uint32_t>(127 - clamped) << 23);
}

// r of one row for `layer`, after which n holds n - mean: y = r * n. The row's elements are n[block][2 half + i], in
// columns column(block, i); those from head_dim on are zero.
template <int kBlocks, class Column>
POWER_DEVICE float center_row(float (&n)[kBlocks][4], int half, int head_dim, float scale_power, const Column& column) {
  float sum = 0.0f;
  POWER_UNROLL
  for (int block = 0; block < kBlocks; ++block) sum += n[block][2 * half] + n[block][2 * half + 1];
  const float mean = sum_of_row(sum) / static_cast<float>(head_dim);
  float largest = 0.0f;
  POWER_UNROLL
  for (int block = 0; block < kBlocks; ++block) {
    POWER_UNROLL
    for (int i = 0; i < 2; ++i) {
      float& x = n[block][2 * half + i];
      x = column(block, i) < head_dim ? x - mean : 0.0f;
      largest = fmaxf(largest, fabsf(x));
    }
  }
  largest = largest_of_row(largest);
  float squares = 0.0f;  // of values scaled to 1: n^2 can leave float's range where n does not
  const float inverse_largest = largest == 0.0f ? 0.0f : 1.0f / largest;
  POWER_UNROLL
  for (int block = 0; block < kBlocks; ++block) {
    POWER_UNROLL
    for (int i = 0; i < 2; ++i) {
      const float x = n[block][2 * half + i] * inverse_largest;
      squares = fmaf(x, x, squares);
    }
  }
  squares = sum_of_row(squares);
  const float r = squares == 0.0f ? 0.0f : inverse_largest / sqrtf(squares / static_cast<float>(head_dim));
  return scale_power < 0.0f ? -r : r;
}

}  // namespace power::kernels
