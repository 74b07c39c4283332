#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

// What is checked of a checkpoint's bytes beyond their layout: hash and finite values. LibTorch-free.
namespace power::checkpoint {

// XXH3-128 of bytes that come piece by piece; the same text as power::hash_bytes of the whole.
class StreamHash {
 public:
  StreamHash();
  ~StreamHash();
  StreamHash(const StreamHash&) = delete;
  StreamHash& operator=(const StreamHash&) = delete;

  void update(const void* data, size_t bytes);
  std::string hex() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Index of the first element that is infinite or not a number, or -1. `dtype` as in safetensors; integers are finite.
int64_t first_non_finite(std::string_view dtype, const void* data, size_t bytes);

// Throws Error(kData) where a tensor of a safetensors file's bytes holds a value that is not finite, or a BOOL that is
// neither 0 nor 1, or where the layout is wrong (parse_safetensors).
void check_safetensors_content(std::string_view file, const std::string& source);

}  // namespace power::checkpoint
