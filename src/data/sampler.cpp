#include "data/sampler.h"

#include "core/error.h"
#include "data/permutation.h"

namespace power::data {

Sampler::Sampler(int64_t num_tokens, int64_t seq_len, uint64_t seed) : seq_len_(seq_len), seed_(seed) {
  require(seq_len >= 1, ErrorKind::kData, "windows of ", seq_len, " tokens; block_size must be at least 1");
  require(num_tokens > seq_len, ErrorKind::kData, "the training data has ", num_tokens, " tokens, one window takes ",
          seq_len + 1, "; use more text or a smaller block_size");
  windows_ = (num_tokens - 1) / seq_len;
  dropped_ = num_tokens - 1 - windows_ * seq_len;
}

int64_t Sampler::first_token(int64_t sample) const {
  require(sample >= 0, ErrorKind::kRuntime, "sample number ", sample, " is negative");
  const int64_t epoch = sample / windows_;
  const Permutation order(static_cast<uint64_t>(windows_), seed_, static_cast<uint64_t>(epoch));
  return static_cast<int64_t>(order(static_cast<uint64_t>(sample % windows_))) * seq_len_;
}

}  // namespace power::data
