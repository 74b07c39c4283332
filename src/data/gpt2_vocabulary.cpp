#include "data/gpt2_vocabulary.h"

#include <nlohmann/json.hpp>
#include <unordered_map>

#include "core/error.h"

namespace power::data {
namespace {

constexpr size_t kMaxTokens = 65535;  // one id is left for end of text in uint16
constexpr size_t kMaxTokenBytes = 1024;

// GPT-2 writes a byte as the character of that number where it is printable (Latin-1 without spaces and the soft
// hyphen), and the others, in order, as the characters from U+0100 on. Token ids of single bytes follow the same order.
struct ByteAlphabet {
  std::array<uint8_t, 256> byte_of_token;
  std::array<uint32_t, 256> character;  // by byte
  std::unordered_map<uint32_t, uint8_t> byte_of_character;

  ByteAlphabet() {
    std::vector<uint8_t> printable, others;
    for (int byte = 0; byte < 256; ++byte) {
      const bool shown = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
      character[static_cast<size_t>(byte)] =
          static_cast<uint32_t>(shown ? byte : 0x100 + static_cast<int>(others.size()));
      (shown ? printable : others).push_back(static_cast<uint8_t>(byte));
    }
    printable.insert(printable.end(), others.begin(), others.end());
    for (size_t token = 0; token < 256; ++token) byte_of_token[token] = printable[token];
    for (size_t byte = 0; byte < 256; ++byte) byte_of_character[character[byte]] = static_cast<uint8_t>(byte);
  }
};

// Bytes written in the alphabet, whose characters are all below U+0800.
std::string to_bytes(const ByteAlphabet& alphabet, std::string_view text, const std::string& where) {
  std::string bytes;
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    uint32_t code_point = lead;
    size_t length = 1;
    if (lead >= 0x80) {
      const bool two = lead >= 0xC2 && lead <= 0xDF && i + 1 < text.size() && (text[i + 1] & 0xC0) == 0x80;
      require(two, ErrorKind::kData, where, ": byte ", i, " is no character of GPT-2's byte alphabet");
      code_point = (lead & 0x1FU) << 6 | (static_cast<unsigned char>(text[i + 1]) & 0x3FU);
      length = 2;
    }
    const auto found = alphabet.byte_of_character.find(code_point);
    require(found != alphabet.byte_of_character.end(), ErrorKind::kData, where, ": byte ", i,
            " is no character of GPT-2's byte alphabet");
    bytes += static_cast<char>(found->second);
    i += length;
  }
  return bytes;
}

}  // namespace

Gpt2Vocabulary parse_gpt2_merges(std::string_view vocab_bpe) {
  const ByteAlphabet alphabet;
  Gpt2Vocabulary vocabulary{alphabet.byte_of_token, {}};
  std::unordered_map<std::string, uint16_t> ids;
  for (size_t token = 0; token < 256; ++token) {
    ids[std::string(1, static_cast<char>(alphabet.byte_of_token[token]))] = static_cast<uint16_t>(token);
  }
  size_t begin = 0;
  for (int line_number = 1; begin < vocab_bpe.size(); ++line_number) {
    const size_t end = std::min(vocab_bpe.find('\n', begin), vocab_bpe.size());
    const std::string_view line = vocab_bpe.substr(begin, end - begin);
    begin = end + 1;
    const std::string where = "vocab.bpe:" + std::to_string(line_number);
    if (line_number == 1) {
      require(line.substr(0, 9) == "#version:", ErrorKind::kData, where, ": expected #version: in the first line");
      continue;
    }
    const size_t space = line.find(' ');
    require(space != std::string_view::npos && line.find(' ', space + 1) == std::string_view::npos, ErrorKind::kData,
            where, ": expected two tokens with one space between");
    const std::string left = to_bytes(alphabet, line.substr(0, space), where);
    const std::string right = to_bytes(alphabet, line.substr(space + 1), where);
    const auto left_id = ids.find(left), right_id = ids.find(right);
    require(left_id != ids.end() && right_id != ids.end(), ErrorKind::kData, where,
            ": merges a token that no line before it makes");
    require(left.size() + right.size() <= kMaxTokenBytes, ErrorKind::kData, where, ": a token of more than ",
            kMaxTokenBytes, " bytes");
    const size_t id = 256 + vocabulary.merges.size();
    require(id < kMaxTokens, ErrorKind::kData, where, ": more than ", kMaxTokens, " tokens");
    require(ids.emplace(left + right, static_cast<uint16_t>(id)).second, ErrorKind::kData, where,
            ": makes a token that a line before it made");
    vocabulary.merges.push_back({left_id->second, right_id->second});
  }
  require(!vocabulary.merges.empty(), ErrorKind::kData, "vocab.bpe: holds no merges");
  return vocabulary;
}

std::vector<std::string> token_strings(const Gpt2Vocabulary& vocabulary) {
  std::vector<std::string> tokens;
  tokens.reserve(256 + vocabulary.merges.size());
  for (const uint8_t byte : vocabulary.byte_of_token) tokens.emplace_back(1, static_cast<char>(byte));
  for (const auto& [left, right] : vocabulary.merges) tokens.push_back(tokens[left] + tokens[right]);
  return tokens;
}

void check_gpt2_encoder(const Gpt2Vocabulary& vocabulary, std::string_view encoder_json) {
  const nlohmann::json encoder = nlohmann::json::parse(encoder_json, nullptr, false);
  require(encoder.is_object(), ErrorKind::kData, "encoder.json: not a JSON object");
  const ByteAlphabet alphabet;
  const std::vector<std::string> tokens = token_strings(vocabulary);
  require(encoder.size() == tokens.size() + 1, ErrorKind::kData, "encoder.json: ", encoder.size(),
          " tokens, vocab.bpe makes ", tokens.size(), " and end of text is one more");
  const auto end_of_text = encoder.find("<|endoftext|>");
  require(end_of_text != encoder.end() && *end_of_text == tokens.size(), ErrorKind::kData,
          "encoder.json: <|endoftext|> must be the last token");
  for (const auto& [name, id] : encoder.items()) {
    if (name == "<|endoftext|>") continue;
    const std::string where = "encoder.json: \"" + name + "\"";
    const std::string bytes = to_bytes(alphabet, name, where);
    require(id.is_number_unsigned() && id.get<uint64_t>() < tokens.size() && tokens[id.get<size_t>()] == bytes,
            ErrorKind::kData, where, " has number ", id.dump(), ", vocab.bpe gives another");
  }
}

}  // namespace power::data
