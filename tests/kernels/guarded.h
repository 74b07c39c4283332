#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#include "tests/kernels/attention_case.h"

namespace power::kernels::testing {

inline uint16_t to_bf16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

inline float from_bf16(uint16_t x) {
  const uint32_t bits = static_cast<uint32_t>(x) << 16;
  float f;
  std::memcpy(&f, &bits, 4);
  return f;
}

// Device memory between two guard zones that a correct kernel leaves alone. Starts as NaN.
class Guarded {
 public:
  static constexpr size_t kGuard = 4096;
  Guarded(Device& device, size_t bytes) : device_(device), bytes_(bytes) {
    base_ = static_cast<char*>(device.allocate(bytes + 2 * kGuard));
    reset();
  }
  Guarded(const Guarded&) = delete;
  ~Guarded() { device_.release(base_); }
  void reset() {
    std::vector<char> fill(bytes_ + 2 * kGuard, static_cast<char>(0xff));
    std::memset(fill.data(), 0x5a, kGuard);
    std::memset(fill.data() + kGuard + bytes_, 0x5a, kGuard);
    device_.upload(base_, fill.data(), fill.size());
  }
  template <class T = void>
  T* data() const {
    return reinterpret_cast<T*>(base_ + kGuard);
  }
  void upload(const void* from) { device_.upload(base_ + kGuard, from, bytes_); }
  std::vector<char> download() const {
    std::vector<char> all(bytes_ + 2 * kGuard);
    device_.download(all.data(), base_, all.size());
    return all;
  }
  static bool guards_intact(const std::vector<char>& all) {
    for (size_t i = 0; i < kGuard; ++i) {
      if (all[i] != 0x5a || all[all.size() - 1 - i] != 0x5a) return false;
    }
    return true;
  }

 private:
  Device& device_;
  size_t bytes_;
  char* base_;
};

}  // namespace power::kernels::testing
