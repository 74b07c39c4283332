#include "data/unicode.h"

namespace power::data {
namespace {

struct Range {
  uint32_t first, last;
  CharClass kind;
};
constexpr Range kRanges[] = {
#include "data/unicode_ranges.inc"
};
constexpr uint32_t kCodePoints = 0x110000;

}  // namespace

int utf8_length(std::string_view text, size_t pos) {
  const auto byte = [&](size_t i) -> unsigned { return static_cast<unsigned char>(text[pos + i]); };
  const auto continues = [&](size_t i, unsigned low = 0x80, unsigned high = 0xBF) {
    return pos + i < text.size() && byte(i) >= low && byte(i) <= high;
  };
  const unsigned lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return continues(1) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {
    const unsigned low = lead == 0xE0 ? 0xA0 : 0x80;   // below: overlong
    const unsigned high = lead == 0xED ? 0x9F : 0xBF;  // above: surrogates
    return continues(1, low, high) && continues(2) ? 3 : 0;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    const unsigned low = lead == 0xF0 ? 0x90 : 0x80;   // below: overlong
    const unsigned high = lead == 0xF4 ? 0x8F : 0xBF;  // above: beyond U+10FFFF
    return continues(1, low, high) && continues(2) && continues(3) ? 4 : 0;
  }
  return 0;
}

CharTable::CharTable() : packed_(kCodePoints / 4) {
  for (const Range& range : kRanges) {
    for (uint32_t c = range.first; c <= range.last; ++c) {
      packed_[c >> 2] = static_cast<uint8_t>(packed_[c >> 2] | range.kind << (2 * (c & 3)));
    }
  }
  for (uint32_t c = 0; c < 128; ++c) ascii_[c] = classify(c);
}

const CharTable& CharTable::instance() {
  static const CharTable table;
  return table;
}

Character CharTable::decode(std::string_view text, size_t pos) const {
  const int length = utf8_length(text, pos);
  if (length == 0) return {kOther, 1};
  uint32_t code_point = static_cast<unsigned char>(text[pos]) & (0xFFU >> (length + 1));
  for (int i = 1; i < length; ++i) {
    code_point = code_point << 6 | (static_cast<unsigned char>(text[pos + static_cast<size_t>(i)]) & 0x3F);
  }
  return {classify(code_point), static_cast<uint8_t>(length)};
}

}  // namespace power::data
