#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace power::data {

// The classes that GPT-2's pattern tells apart: \p{L}, \p{N}, \s, and all else. Unicode 16.0.
enum CharClass : uint8_t { kOther, kLetter, kNumber, kSpace };

// One character of a text. A byte that begins no well-formed UTF-8 sequence is a character of its own, of class kOther.
struct Character {
  CharClass kind;
  uint8_t bytes;  // 1 to 4
};

// Length of the well-formed UTF-8 sequence at text[pos] (Unicode's table 3-7: no overlong forms, no surrogates, nothing
// above U+10FFFF), or 0.
int utf8_length(std::string_view text, size_t pos);

class CharTable {
 public:
  // Built at the first use, shared by all threads.
  static const CharTable& instance();

  CharClass classify(uint32_t code_point) const {
    return static_cast<CharClass>(packed_[code_point >> 2] >> (2 * (code_point & 3)) & 3);
  }
  Character at(std::string_view text, size_t pos) const {
    const auto byte = static_cast<unsigned char>(text[pos]);
    if (byte < 0x80) return {static_cast<CharClass>(ascii_[byte]), 1};
    return decode(text, pos);
  }

 private:
  CharTable();
  Character decode(std::string_view text, size_t pos) const;

  uint8_t ascii_[128];
  std::vector<uint8_t> packed_;  // four code points a byte
};

}  // namespace power::data
