#pragma once

// What a kernel source needs from its compiler. The same sources are compiled by nvcc for the GPU and, in the tests, by
// the host compiler against tests/kernels/emulator, which runs every CUDA thread as a fiber.

#include <cstddef>
#include <cstdint>

#if defined(POWER_EMULATE)
#include "tests/kernels/emulator/emulator.h"
#define POWER_DEVICE inline
#define POWER_DEVICE_CALL inline
#define POWER_UNROLL
#define POWER_ROLLED
#define POWER_SHARED_MEMORY(name) uint8_t* name = ::power::emulator::shared_memory()
#else
#define POWER_DEVICE __device__ __forceinline__
#define POWER_DEVICE_CALL __device__ __noinline__
#define POWER_UNROLL _Pragma("unroll")
#define POWER_ROLLED _Pragma("unroll 1")
#define POWER_SHARED_MEMORY(name) extern __shared__ __align__(1024) uint8_t name[]
#endif

#if defined(__CUDACC__)
#define POWER_HOST_DEVICE __host__ __device__
#else
#define POWER_HOST_DEVICE
#endif

namespace power::kernels {

template <class T>
POWER_HOST_DEVICE constexpr T ceil_div(T a, T b) {
  return (a + b - 1) / b;
}

template <class T>
POWER_HOST_DEVICE constexpr T round_up(T a, T b) {
  return ceil_div(a, b) * b;
}

}  // namespace power::kernels
