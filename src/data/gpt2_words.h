#pragma once

#include <cstddef>
#include <string_view>

#include "data/unicode.h"

namespace power::data {

// The end of the word that begins at `begin`, by GPT-2's pattern
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
// A word depends on nothing before it, so words can be cut off one after the other.
size_t gpt2_word_end(const CharTable& table, std::string_view text, size_t begin);

}  // namespace power::data
