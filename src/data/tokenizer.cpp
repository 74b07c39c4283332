#include "data/tokenizer.h"

#include <algorithm>
#include <array>
#include <utility>

#include "core/error.h"
#include "data/gpt2_tokenizer.h"
#include "data/unicode.h"

namespace power::data {
namespace {

// Token id = byte; 256 ends a document.
class ByteTokenizer : public Tokenizer {
 public:
  ByteTokenizer() {
    for (size_t byte = 0; byte < 256; ++byte) bytes_[byte] = static_cast<char>(byte);
  }
  std::string name() const override { return "bytes"; }
  int64_t vocab_size() const override { return 257; }
  int64_t end_of_text() const override { return 256; }
  void encode(std::string_view text, std::vector<uint16_t>& ids) const override {
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
  }
  std::string_view token_bytes(int64_t id) const override {
    require(id >= 0 && id < vocab_size(), ErrorKind::kData, "token id ", id, " is not below the vocabulary size ",
            vocab_size(), " of tokenizer bytes");
    return id == end_of_text() ? std::string_view() : std::string_view(&bytes_[static_cast<size_t>(id)], 1);
  }

 private:
  std::array<char, 256> bytes_;
};

// True where more bytes could complete the sequence that `text` begins.
bool may_continue(std::string_view text) {
  for (const std::string_view rest : {"\x80", "\x80\x80", "\x80\x80\x80", "\xA0", "\xA0\x80", "\x90\x80\x80"}) {
    const std::string whole = std::string(text) + std::string(rest);
    if (utf8_length(whole, 0) == static_cast<int>(whole.size())) return true;
  }
  return false;
}

}  // namespace

std::vector<uint16_t> Tokenizer::encode(std::string_view text) const {
  std::vector<uint16_t> ids;
  encode(text, ids);
  return ids;
}

std::string Tokenizer::decode(const std::vector<uint16_t>& ids) const {
  std::string text;
  for (const uint16_t id : ids) text += token_bytes(id);
  return text;
}

std::unique_ptr<Tokenizer> make_tokenizer(const std::string& name) {
  if (name == "gpt2") return std::make_unique<Gpt2Tokenizer>();
  if (name == "bytes") return std::make_unique<ByteTokenizer>();
  fail(ErrorKind::kUsage, "unknown tokenizer \"", name, "\"; there are gpt2 and bytes");
}

std::string Utf8Stream::push(std::string_view bytes) {
  pending_ += bytes;
  // Only the last three bytes can belong to a character that is still incomplete.
  size_t keep = pending_.size();
  for (size_t back = 1; back <= std::min<size_t>(3, pending_.size()); ++back) {
    const size_t pos = pending_.size() - back;
    if (utf8_length(pending_, pos) == 0 && may_continue(std::string_view(pending_).substr(pos))) keep = pos;
  }
  std::string shown = pending_.substr(0, keep);
  pending_.erase(0, keep);
  return shown;
}

std::string Utf8Stream::finish() { return std::exchange(pending_, std::string()); }

}  // namespace power::data
