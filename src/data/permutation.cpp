#include "data/permutation.h"

#include <bit>

namespace power::data {
namespace {

// Finalizer of SplitMix64 (Steele, Lea, Flood 2014; constants by Stafford).
uint64_t mix(uint64_t x) {
  x ^= x >> 30;
  x *= 0xbf58476d1ce4e5b9ULL;
  x ^= x >> 27;
  x *= 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

}  // namespace

Permutation::Permutation(uint64_t size, uint64_t seed, uint64_t stream) : size_(size) {
  const int bits = size > 1 ? std::bit_width(size - 1) : 1;
  half_bits_ = (bits + 1) / 2;
  uint64_t state = mix(seed) ^ (stream * 0x9e3779b97f4a7c15ULL);
  for (uint64_t& key : keys_) key = mix(state += 0x9e3779b97f4a7c15ULL);
}

// A Feistel network permutes [0, 4^half_bits), which holds fewer than 4 * size numbers (size > 1); walking its cycle
// until a number below `size` comes restricts the permutation to them (Black and Rogaway 2002) in under 4 steps on
// average.
uint64_t Permutation::operator()(uint64_t index) const {
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  do {
    uint64_t left = index >> half_bits_, right = index & mask;
    for (const uint64_t key : keys_) {
      const uint64_t next = left ^ (mix(right ^ key) & mask);
      left = right;
      right = next;
    }
    index = left << half_bits_ | right;
  } while (index >= size_);
  return index;
}

}  // namespace power::data
