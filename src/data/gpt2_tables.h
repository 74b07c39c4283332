#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace power::data {

// Tokens of GPT-2 by bytes and by id. A token's id is also its rank: lower ids are merged first.
class Gpt2Tables {
 public:
  static constexpr uint32_t kNone = UINT32_MAX;
  static constexpr int64_t kEndOfText = 50256;

  // The vocabulary compiled into the program, built at the first use, shared by all threads.
  static const Gpt2Tables& instance();

  std::string_view bytes(int64_t id) const {
    const auto i = static_cast<size_t>(id);
    return std::string_view(blob_).substr(begins_[i], begins_[i + 1] - begins_[i]);
  }
  uint16_t byte_token(unsigned char byte) const { return byte_tokens_[byte]; }
  // The token of exactly these bytes, or kNone.
  uint32_t find(const char* text, size_t size) const;
  // The token of two bytes, or kNone: most lookups of a merge.
  uint32_t find_pair(const char* text) const {
    const uint16_t token = pairs_[static_cast<unsigned char>(text[0]) << 8 | static_cast<unsigned char>(text[1])];
    return token == 0xFFFF ? kNone : token;
  }

 private:
  Gpt2Tables();

  std::string blob_;              // all tokens one after the other
  std::vector<uint32_t> begins_;  // of each token in the blob, then its size
  uint16_t byte_tokens_[256];
  std::vector<uint16_t> pairs_;  // by both bytes
  std::vector<uint16_t> slots_;  // open addressing: token id, or 0xFFFF
  size_t longest_ = 0;
};

// A 64-bit hash of a few bytes, by multiplication.
uint64_t hash_word(const char* text, size_t size);

}  // namespace power::data
