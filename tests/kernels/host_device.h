#pragma once

#include <cstdlib>
#include <cstring>

#include "tests/kernels/attention_case.h"

namespace power::kernels::testing {

// Host memory, for kernels that run on the emulator.
class HostDevice : public Device {
 public:
  void* allocate(size_t bytes) override { return std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096); }
  void release(void* pointer) override { std::free(pointer); }
  void upload(void* to, const void* from, size_t bytes) override { std::memcpy(to, from, bytes); }
  void download(void* to, const void* from, size_t bytes) override { std::memcpy(to, from, bytes); }
};

}  // namespace power::kernels::testing
