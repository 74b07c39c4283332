#include "data/gpt2_tables.h"

#include <algorithm>
#include <cstring>
#include <iterator>

#include "data/generated/gpt2_vocabulary.inc"

namespace power::data {
namespace {

constexpr uint16_t kEmpty = 0xFFFF;
constexpr size_t kSlots = 1 << 17;  // 38% full

}  // namespace

uint64_t hash_word(const char* text, size_t size) {
  uint64_t hash = size * 0x9e3779b97f4a7c15ULL;
  uint64_t part = 0;
  for (; size >= 8; text += 8, size -= 8) {
    std::memcpy(&part, text, 8);
    hash = (hash ^ part) * 0xff51afd7ed558ccdULL;
    hash ^= hash >> 32;
  }
  part = 0;
  if (size >= 4) {
    uint32_t low = 0, high = 0;
    std::memcpy(&low, text, 4);
    std::memcpy(&high, text + size - 4, 4);
    part = low | static_cast<uint64_t>(high) << 32;
  } else {
    for (size_t i = 0; i < size; ++i) part |= static_cast<uint64_t>(static_cast<unsigned char>(text[i])) << (8 * i);
  }
  hash = (hash ^ part) * 0xc4ceb9fe1a85ec53ULL;
  return hash ^ hash >> 29;
}

Gpt2Tables::Gpt2Tables() : pairs_(1 << 16, kEmpty), slots_(kSlots, kEmpty) {
  begins_.reserve(256 + std::size(kMerges) + 1);
  blob_.reserve(400'000);
  const auto add = [&](std::string_view token) {
    const auto id = static_cast<uint16_t>(begins_.size());
    begins_.push_back(static_cast<uint32_t>(blob_.size()));
    blob_ += token;
    longest_ = std::max(longest_, token.size());
    if (token.size() == 2) {
      pairs_[static_cast<size_t>(static_cast<unsigned char>(token[0]) << 8 | static_cast<unsigned char>(token[1]))] =
          id;
    }
    size_t slot = hash_word(token.data(), token.size()) % kSlots;
    while (slots_[slot] != kEmpty) slot = (slot + 1) % kSlots;
    slots_[slot] = id;
  };
  for (const uint8_t byte : kByteOfToken) {
    byte_tokens_[byte] = static_cast<uint16_t>(begins_.size());
    add(std::string(1, static_cast<char>(byte)));
  }
  const auto token = [&](uint16_t id) {
    const uint32_t end =
        static_cast<size_t>(id) + 1 < begins_.size() ? begins_[id + 1U] : static_cast<uint32_t>(blob_.size());
    return blob_.substr(begins_[id], end - begins_[id]);
  };
  for (const auto& [left, right] : kMerges) add(token(left) + token(right));
  begins_.push_back(static_cast<uint32_t>(blob_.size()));
  begins_.push_back(static_cast<uint32_t>(blob_.size()));  // end of text: no bytes
}

const Gpt2Tables& Gpt2Tables::instance() {
  static const Gpt2Tables tables;
  return tables;
}

uint32_t Gpt2Tables::find(const char* text, size_t size) const {
  if (size > longest_) return kNone;
  for (size_t slot = hash_word(text, size) % kSlots; slots_[slot] != kEmpty; slot = (slot + 1) % kSlots) {
    const std::string_view token = bytes(slots_[slot]);
    if (token.size() == size && std::memcmp(token.data(), text, size) == 0) return slots_[slot];
  }
  return kNone;
}

}  // namespace power::data
