#include "data/gpt2_words.h"

namespace power::data {
namespace {

// 's 't 'm 'd 're 've 'll: bytes of the contraction at `begin` (an apostrophe), or 0.
size_t contraction(std::string_view text, size_t begin) {
  const size_t left = text.size() - begin;
  if (left < 2) return 0;
  const char first = text[begin + 1];
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
  if (left < 3) return 0;
  const char second = text[begin + 2];
  const bool two =
      (first == 'r' && second == 'e') || (first == 'v' && second == 'e') || (first == 'l' && second == 'l');
  return two ? 3 : 0;
}

}  // namespace

size_t gpt2_word_end(const CharTable& table, std::string_view text, size_t begin) {
  const size_t size = text.size();
  size_t pos = begin;
  Character first = table.at(text, pos);
  if (first.kind != kSpace || (text[begin] == ' ' && begin + 1 < size && table.at(text, begin + 1).kind != kSpace)) {
    if (text[begin] == '\'') {
      if (const size_t bytes = contraction(text, begin)) return begin + bytes;
    } else if (first.kind == kSpace) {
      first = table.at(text, ++pos);  // " ?": one plain space joins the word after it
    }
    for (pos += first.bytes; pos < size;) {
      const Character next = table.at(text, pos);
      if (next.kind != first.kind) break;
      pos += next.bytes;
    }
    return pos;
  }
  // A run of whitespace. Before other text it gives up its last character (\s+(?!\S)), unless that is all it has (\s+).
  size_t last = begin;
  for (pos += first.bytes; pos < size;) {
    const Character next = table.at(text, pos);
    if (next.kind != kSpace) return last == begin ? pos : last;
    last = pos;
    pos += next.bytes;
  }
  return pos;
}

}  // namespace power::data
