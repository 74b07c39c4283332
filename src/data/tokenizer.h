#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace power::data {

// Text to token ids and back. Every token decodes to fixed bytes; the end-of-text token decodes to nothing.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  virtual std::string name() const = 0;     // "gpt2" or "bytes"
  virtual int64_t vocab_size() const = 0;   // 50257 or 257
  virtual int64_t end_of_text() const = 0;  // 50256 or 256
  // Encodes ordinary text; a marker such as <|endoftext|> in it is text like any other. Appends to `ids`.
  virtual void encode(std::string_view text, std::vector<uint16_t>& ids) const = 0;
  // The bytes of one token. Throws Error(kData) for an id outside the vocabulary.
  virtual std::string_view token_bytes(int64_t id) const = 0;

  std::vector<uint16_t> encode(std::string_view text) const;
  std::string decode(const std::vector<uint16_t>& ids) const;
};

// By name; throws Error(kUsage) for an unknown one. The GPT-2 vocabulary is compiled into the program.
std::unique_ptr<Tokenizer> make_tokenizer(const std::string& name);

// Splits decoded bytes at character boundaries: holds back an incomplete UTF-8 sequence until the rest arrives.
class Utf8Stream {
 public:
  // Returns what can be shown now.
  std::string push(std::string_view bytes);
  // The held-back rest (an incomplete character), at the end of the stream.
  std::string finish();

 private:
  std::string pending_;
};

}  // namespace power::data
