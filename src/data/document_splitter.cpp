#include "data/document_splitter.h"

#include <algorithm>
#include <array>
#include <utility>

namespace power::data {
namespace {

bool is_ascii_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

// True where the bytes before `pos` could be the end of a whitespace character outside ASCII: U+0085, U+00A0, U+1680,
// U+2000..200A, U+2028, U+2029, U+202F, U+205F, U+3000.
bool may_follow_wide_space(std::string_view text, size_t pos) {
  if (pos < 2) return true;
  const std::string_view two = text.substr(pos - 2, 2);
  if (two == "\xC2\x85" || two == "\xC2\xA0") return true;
  if (pos < 3) return true;
  static constexpr std::array<std::string_view, 4> kStarts = {"\xE1\x9A", "\xE2\x80", "\xE2\x81", "\xE3\x80"};
  const std::string_view start = text.substr(pos - 3, 2);
  return std::find(kStarts.begin(), kStarts.end(), start) != kStarts.end();
}

}  // namespace

size_t find_cut(std::string_view text, size_t begin) {
  for (size_t pos = text.size(); pos-- > begin + 1;) {
    if (!is_ascii_space(text[pos])) continue;
    const char before = text[pos - 1];
    if (is_ascii_space(before)) continue;
    if (static_cast<unsigned char>(before) < 0x80 || !may_follow_wide_space(text, pos)) return pos;
  }
  return begin;
}

DocumentSplitter::DocumentSplitter(DocumentMode mode, size_t block_bytes, std::function<void(TextBlock&&)> emit)
    : mode_(mode), block_bytes_(block_bytes), emit_(std::move(emit)) {}

void DocumentSplitter::begin_text(const std::string& name, bool jsonl) {
  if (jsonl != block_.jsonl || jsonl) finish();
  jsonl_ = block_.jsonl = jsonl;
  block_.name = name;
  block_.first_line = line_ = 1;
  document_bytes_ = 0;
}

void DocumentSplitter::add(std::string_view bytes) {
  if (jsonl_) {
    add_json(bytes);
  } else if (mode_ == DocumentMode::kLine) {
    add_lines(bytes);
  } else if (mode_ == DocumentMode::kEot) {
    add_between_markers(bytes);
  } else {
    block_.text += bytes;
    document_bytes_ += bytes.size();
    emit_if_full();
  }
}

void DocumentSplitter::add_lines(std::string_view bytes) {
  while (!bytes.empty()) {
    const size_t end = std::min(bytes.find('\n'), bytes.size());
    block_.text += bytes.substr(0, end);
    document_bytes_ += end;
    if (end < bytes.size() && document_bytes_ > 0) end_document();
    bytes.remove_prefix(std::min(end + 1, bytes.size()));
  }
  emit_if_full();
}

void DocumentSplitter::add_between_markers(std::string_view bytes) {
  held_ += bytes;
  size_t begin = 0;
  for (size_t marker = 0; (marker = held_.find(kDocumentSeparator, begin)) != std::string::npos;) {
    block_.text.append(held_, begin, marker - begin);
    end_document();
    begin = marker + kDocumentSeparator.size();
  }
  // A marker may begin in the last bytes.
  const size_t sure = std::max(begin, held_.size() - std::min(held_.size(), kDocumentSeparator.size() - 1));
  block_.text.append(held_, begin, sure - begin);
  document_bytes_ += sure - begin;
  held_.erase(0, sure);
  emit_if_full();
}

void DocumentSplitter::add_json(std::string_view bytes) {
  block_.text += bytes;
  if (block_.text.size() < std::max(block_bytes_, next_try_)) return;
  const size_t end = block_.text.rfind('\n');
  next_try_ = end == std::string::npos ? 2 * block_.text.size() : 0;
  if (end == std::string::npos) return;
  std::string rest = block_.text.substr(end + 1);
  block_.text.resize(end + 1);
  line_ += std::count(block_.text.begin(), block_.text.end(), '\n');
  TextBlock next{std::move(rest), {}, true, block_.name, line_};
  emit_(std::exchange(block_, std::move(next)));
}

void DocumentSplitter::end_text() {
  if (jsonl_) return finish();
  document_bytes_ += held_.size();
  block_.text += std::exchange(held_, std::string());
  if (document_bytes_ > 0) end_document();
  emit_if_full();
}

void DocumentSplitter::end_document() {
  block_.ends.push_back(block_.text.size());
  document_bytes_ = 0;
}

void DocumentSplitter::emit_if_full() {
  if (block_.text.size() < std::max(block_bytes_, next_try_)) return;
  const size_t last_end = block_.ends.empty() ? 0 : block_.ends.back();
  const size_t cut = find_cut(block_.text, last_end);
  if (cut > 0) {
    emit_up_to(cut);
    next_try_ = 0;
  } else {
    next_try_ = 2 * block_.text.size();  // one very long word: do not search it again at every piece
  }
}

void DocumentSplitter::emit_up_to(size_t cut) {
  TextBlock next{block_.text.substr(cut), {}, false, block_.name, 1};
  block_.text.resize(cut);
  emit_(std::exchange(block_, std::move(next)));
}

void DocumentSplitter::finish() {
  if (!block_.text.empty() || !block_.ends.empty()) emit_(std::exchange(block_, TextBlock{}));
  next_try_ = 0;
}

}  // namespace power::data
