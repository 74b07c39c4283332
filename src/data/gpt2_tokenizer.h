#pragma once

#include "data/gpt2_tables.h"
#include "data/tokenizer.h"
#include "data/unicode.h"

namespace power::data {

// GPT-2's byte-level BPE, identical to tiktoken 0.14.0's "gpt2" on valid UTF-8. An invalid byte is a symbol (no letter,
// number or space) of its own.
class Gpt2Tokenizer : public Tokenizer {
 public:
  std::string name() const override { return "gpt2"; }
  int64_t vocab_size() const override { return Gpt2Tables::kEndOfText + 1; }
  int64_t end_of_text() const override { return Gpt2Tables::kEndOfText; }
  void encode(std::string_view text, std::vector<uint16_t>& ids) const override;
  std::string_view token_bytes(int64_t id) const override;

 private:
  const Gpt2Tables& tables_ = Gpt2Tables::instance();
  const CharTable& characters_ = CharTable::instance();
};

}  // namespace power::data
