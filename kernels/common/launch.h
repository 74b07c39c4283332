#pragma once

#include "kernels/common/device.h"

#if !defined(POWER_EMULATE)
#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

namespace power::kernels {

inline void check_cuda(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  throw std::runtime_error(std::string(what) + ": " + cudaGetErrorName(status) + ": " + cudaGetErrorString(status));
}

// For kernels that read memory past the first-level cache: shared memory for as many blocks as fit.
template <class Args>
void prefer_shared_memory(void (*kernel)(Args), const char* name) {
  check_cuda(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributePreferredSharedMemoryCarveout,
                                  cudaSharedmemCarveoutMaxShared),
             name);
}

// Launches kernel(args); errors name the kernel.
template <class Args>
void launch(void (*kernel)(Args), const char* name, dim3 grid, int threads, size_t shared_bytes, void* stream,
            const Args& args) {
  if (shared_bytes > 48 * 1024) {
    check_cuda(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    static_cast<int>(shared_bytes)),
               name);
  }
  kernel<<<grid, threads, shared_bytes, static_cast<cudaStream_t>(stream)>>>(args);
  check_cuda(cudaGetLastError(), name);
}

}  // namespace power::kernels

#else

namespace power::kernels {

template <class Args>
void prefer_shared_memory(void (*)(Args), const char*) {}

template <class Args>
void launch(void (*kernel)(Args), const char* name, dim3 grid, int threads, size_t shared_bytes, void*,
            const Args& args) {
  ::power::emulator::run_grid(name, grid, threads, shared_bytes, [&] { kernel(args); });
}

}  // namespace power::kernels
#endif
