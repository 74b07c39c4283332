#pragma once

#include <cstdint>

namespace power::data {

// The order of training windows: window k of n tokens covers tokens [k*T, k*T + T], an epoch is a permutation of the
// windows, a pure function of (seed, epoch, index). Independent of world size and micro-batch split.
class Sampler {
 public:
  // Throws Error(kData) where num_tokens holds no window (fewer than seq_len + 1 tokens).
  Sampler(int64_t num_tokens, int64_t seq_len, uint64_t seed);

  int64_t seq_len() const { return seq_len_; }
  int64_t windows_per_epoch() const { return windows_; }
  int64_t dropped_tokens() const { return dropped_; }  // the remainder that no window covers
  // First token of the window that global sample number `sample` (0, 1, ... over all epochs) reads.
  int64_t first_token(int64_t sample) const;

 private:
  int64_t seq_len_;
  int64_t windows_;
  int64_t dropped_;
  uint64_t seed_;
};

}  // namespace power::data
