#pragma once

#include "kernels/common/launch.h"
#include "kernels/common/ptx.cuh"
#include "kernels/power_attention_float32/discounted_sum.h"

namespace power::kernels::float32 {

// A thread's elements of one (batch, head): block x counts those, block y slices of the elements.
struct DiscountedPiece {
  int batch, head, chunks, heads, elements, first;

  template <class Params>
  POWER_DEVICE explicit DiscountedPiece(const Params& params)
      : batch(static_cast<int>(blockIdx.x) / params.heads),
        head(static_cast<int>(blockIdx.x) % params.heads),
        chunks(params.chunks),
        heads(params.heads),
        elements(params.elements),
        first(static_cast<int>(blockIdx.y) * kDiscountedThreads * kDiscountedElements + static_cast<int>(threadIdx.x)) {
  }
  POWER_DEVICE int64_t chunk(int n) const { return (int64_t{batch} * chunks + n) * heads + head; }
  POWER_DEVICE int64_t whole() const { return int64_t{batch} * heads + head; }
  // Elements of the tensor number `tensor` of an array; zeros where the array is null.
  POWER_DEVICE void load(float (&x)[kDiscountedElements], const float* array, int64_t tensor) const {
    POWER_UNROLL
    for (int i = 0; i < kDiscountedElements; ++i) {
      const int element = first + i * kDiscountedThreads;
      x[i] = array != nullptr && element < elements ? array[tensor * elements + element] : 0.0f;
    }
  }
  POWER_DEVICE void store(const float (&x)[kDiscountedElements], float* array, int64_t tensor) const {
    POWER_UNROLL
    for (int i = 0; i < kDiscountedElements; ++i) {
      const int element = first + i * kDiscountedThreads;
      if (element < elements) array[tensor * elements + element] = x[i];
    }
  }
};

__global__ void __launch_bounds__(kDiscountedThreads)
    discounted_sum_kernel(const __grid_constant__ DiscountedSum params) {
  const DiscountedPiece piece(params);
  float run[kDiscountedElements], x[kDiscountedElements];
  piece.load(run, params.initial, piece.whole());
  for (int n = 0; n < params.chunks; ++n) {
    const int64_t chunk = piece.chunk(n);
    piece.load(x, params.x, chunk);
    piece.store(run, params.before, chunk);
    const float decay = params.decay == nullptr ? 1.0f : params.decay[chunk];
    POWER_UNROLL
    for (int i = 0; i < kDiscountedElements; ++i) run[i] = fmaf(run[i], decay, x[i]);
  }
  piece.store(run, params.last, piece.whole());
}

__global__ void __launch_bounds__(kDiscountedThreads)
    discounted_sum_backward_kernel(const __grid_constant__ DiscountedSumBackward params) {
  const DiscountedPiece piece(params);
  float run[kDiscountedElements], x[kDiscountedElements];
  piece.load(run, params.dlast, piece.whole());
  for (int n = params.chunks - 1; n >= 0; --n) {  // run: gradient of the value after chunk n
    const int64_t chunk = piece.chunk(n);
    piece.store(run, params.dx, chunk);
    if (params.ddecay != nullptr) {
      piece.load(x, params.before, chunk);
      float dot = 0.0f;
      POWER_UNROLL
      for (int i = 0; i < kDiscountedElements; ++i) dot = fmaf(x[i], run[i], dot);
      for (int mask = 16; mask > 0; mask /= 2) dot += shuffle_xor(dot, mask);
      if (threadIdx.x % 32 == 0) {
        const int64_t parts = int64_t{gridDim.y} * kDiscountedWarps;
        params.ddecay[chunk * parts + blockIdx.y * kDiscountedWarps + threadIdx.x / 32] = dot;
      }
    }
    piece.load(x, params.dbefore, chunk);
    const float decay = params.decay == nullptr ? 1.0f : params.decay[chunk];
    POWER_UNROLL
    for (int i = 0; i < kDiscountedElements; ++i) run[i] = fmaf(run[i], decay, x[i]);
  }
  piece.store(run, params.dinitial, piece.whole());
}

int discounted_sum_parts(int elements) {
  return ceil_div(elements, kDiscountedThreads * kDiscountedElements) * kDiscountedWarps;
}

template <class Params>
dim3 discounted_grid(const Params& params) {
  return dim3(params.batch * params.heads, discounted_sum_parts(params.elements) / kDiscountedWarps);
}

void run_discounted_sum(const DiscountedSum& params) {
  launch(discounted_sum_kernel, "discounted_sum_kernel", discounted_grid(params), kDiscountedThreads, 0, params.stream,
         params);
}

void run_discounted_sum_backward(const DiscountedSumBackward& params) {
  launch(discounted_sum_backward_kernel, "discounted_sum_backward_kernel", discounted_grid(params), kDiscountedThreads,
         0, params.stream, params);
}

}  // namespace power::kernels::float32
