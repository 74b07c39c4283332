#pragma once

#include <cstdint>

namespace power::data {

// A pseudo-random permutation of [0, size), evaluated at one place in constant time and memory.
class Permutation {
 public:
  Permutation(uint64_t size, uint64_t seed, uint64_t stream);
  uint64_t operator()(uint64_t index) const;

 private:
  static constexpr int kRounds = 8;
  uint64_t size_;
  int half_bits_ = 1;
  uint64_t keys_[kRounds];
};

}  // namespace power::data
