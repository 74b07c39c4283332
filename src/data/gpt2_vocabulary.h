#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

// Reader of the published vocabulary (encoder.json, vocab.bpe). It runs at build time: the program holds the result.
namespace power::data {

struct Gpt2Vocabulary {
  std::array<uint8_t, 256> byte_of_token;       // tokens 0..255 are single bytes, printable ones first
  std::vector<std::array<uint16_t, 2>> merges;  // token 256 + i joins these two
};

// From vocab.bpe: a version line, then one merge a line, written in GPT-2's printable stand-ins for bytes.
// Throws Error(kData) naming the line.
Gpt2Vocabulary parse_gpt2_merges(std::string_view vocab_bpe);
// That encoder.json numbers every token as the merges do, end of text last. Throws Error(kData).
void check_gpt2_encoder(const Gpt2Vocabulary& vocabulary, std::string_view encoder_json);
// The bytes of every token, in order; end of text has none and is not among them.
std::vector<std::string> token_strings(const Gpt2Vocabulary& vocabulary);

}  // namespace power::data
