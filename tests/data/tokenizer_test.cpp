#include "data/tokenizer.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <set>

#include "core/file.h"
#include "data/gpt2_merge.h"
#include "data/gpt2_tables.h"
#include "data/unicode.h"
#include "tests/support/expect_error.h"
#include "tests/support/paths.h"

namespace power::data {
namespace {

using test::expect_error;

std::string from_base64(const std::string& text) {
  static const std::string kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  uint32_t bits = 0;
  int held = 0;
  for (const char c : text) {
    if (c == '=') break;
    bits = bits << 6 | static_cast<uint32_t>(kDigits.find(c));
    held += 6;
    if (held >= 8) bytes += static_cast<char>(bits >> (held -= 8));
  }
  return bytes;
}

void append_utf8(std::string& text, uint32_t c) {
  if (c < 0x80) {
    text += static_cast<char>(c);
  } else if (c < 0x800) {
    text += {static_cast<char>(0xC0 | c >> 6), static_cast<char>(0x80 | (c & 63))};
  } else if (c < 0x10000) {
    text += {static_cast<char>(0xE0 | c >> 12), static_cast<char>(0x80 | (c >> 6 & 63)),
             static_cast<char>(0x80 | (c & 63))};
  } else {
    text += {static_cast<char>(0xF0 | c >> 18), static_cast<char>(0x80 | (c >> 12 & 63)),
             static_cast<char>(0x80 | (c >> 6 & 63)), static_cast<char>(0x80 | (c & 63))};
  }
}

// The text of every_code_point() in scripts/check_tokenizer.py.
std::string every_code_point() {
  std::string text;
  for (uint32_t code = 0; code < 0x110000; ++code) {
    if (code >= 0xD800 && code <= 0xDFFF) continue;
    std::string c;
    append_utf8(c, code);
    text += "a" + c + "b1" + c + "2 " + c + " !" + c + c + "?\n";
  }
  return text;
}

TEST(Gpt2Tokenizer, SameIdsAsTiktoken) {
  const auto tokenizer = make_tokenizer("gpt2");
  std::ifstream file(test::source_dir() / "tests/data/tokenizer_cases.jsonl");
  int cases = 0;
  for (std::string line; std::getline(file, line); ++cases) {
    const nlohmann::json expected = nlohmann::json::parse(line);
    SCOPED_TRACE(expected["name"].get<std::string>());
    if (expected["name"] == "every_code_point") {
      const std::vector<uint16_t> ids = tokenizer->encode(every_code_point());
      EXPECT_EQ(ids.size(), expected["tokens"].get<size_t>());
      EXPECT_EQ(hash_bytes(ids.data(), ids.size() * 2), expected["xxh3_128"].get<std::string>());
      continue;
    }
    const std::string text = from_base64(expected["base64"]);
    const std::vector<uint16_t> ids = tokenizer->encode(text);
    EXPECT_EQ(ids, expected["ids"].get<std::vector<uint16_t>>());
    EXPECT_EQ(tokenizer->decode(ids), text);
  }
  EXPECT_EQ(cases, 69);
}

TEST(Gpt2Tokenizer, EveryTokenDecodesToItsBytes) {
  const auto tokenizer = make_tokenizer("gpt2");
  EXPECT_EQ(tokenizer->vocab_size(), 50257);
  EXPECT_EQ(tokenizer->end_of_text(), 50256);
  EXPECT_EQ(tokenizer->token_bytes(50256), "");
  EXPECT_EQ(tokenizer->token_bytes(262), " the");
  std::set<std::string_view> seen;
  for (int64_t id = 0; id < 50256; ++id) {
    const std::string_view bytes = tokenizer->token_bytes(id);
    EXPECT_FALSE(bytes.empty()) << id;
    EXPECT_TRUE(seen.insert(bytes).second) << id;
  }
  expect_error(ErrorKind::kData, "token id 50257", [&] { tokenizer->token_bytes(50257); });
  expect_error(ErrorKind::kData, "token id -1", [&] { tokenizer->token_bytes(-1); });
}

// The definition, word for word: the lowest rank first, the leftmost of equals.
std::vector<uint16_t> merge_by_definition(const std::string& word) {
  const Gpt2Tables& tables = Gpt2Tables::instance();
  std::vector<std::string> parts;
  for (const char c : word) parts.emplace_back(1, c);
  for (;;) {
    uint32_t best = Gpt2Tables::kNone;
    size_t at = 0;
    for (size_t i = 0; i + 1 < parts.size(); ++i) {
      const std::string joined = parts[i] + parts[i + 1];
      const uint32_t rank = tables.find(joined.data(), joined.size());
      if (rank < best) {
        best = rank;
        at = i;
      }
    }
    if (best == Gpt2Tables::kNone) break;
    parts[at] += parts[at + 1];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
  std::vector<uint16_t> ids;
  for (const std::string& part : parts) ids.push_back(static_cast<uint16_t>(tables.find(part.data(), part.size())));
  return ids;
}

TEST(Gpt2Tokenizer, MergesOfEveryLengthFollowTheDefinition) {
  std::mt19937 random(1);
  for (int round = 0; round < 300; ++round) {
    const size_t length = 1 + random() % 200;  // both sides of the switch from scanning to a heap
    std::string word;
    const std::string letters = round % 3 == 0 ? "ab" : round % 3 == 1 ? "etaoinshr" : "the and\xC3\xA9-=";
    while (word.size() < length) word += letters[random() % letters.size()];
    std::vector<uint16_t> ids;
    gpt2_merge(Gpt2Tables::instance(), word, ids);
    EXPECT_EQ(ids, merge_by_definition(word)) << word;
  }
}

TEST(Gpt2Tokenizer, AWordOfAMegabyte) {
  std::mt19937 random(2);
  std::string word;
  while (word.size() < 1'000'000) word += static_cast<char>('a' + random() % 26);
  const auto tokenizer = make_tokenizer("gpt2");
  for (const std::string& text : {word, std::string(1'000'000, 'a'), std::string(1'000'000, '\xFF')}) {
    EXPECT_EQ(tokenizer->decode(tokenizer->encode(text)), text);  // quadratic merging takes minutes here
  }
}

TEST(ByteTokenizer, IdsAreBytes) {
  const auto tokenizer = make_tokenizer("bytes");
  EXPECT_EQ(tokenizer->vocab_size(), 257);
  EXPECT_EQ(tokenizer->end_of_text(), 256);
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all += static_cast<char>(byte);
  const std::vector<uint16_t> ids = tokenizer->encode(all);
  for (uint16_t i = 0; i < 256; ++i) EXPECT_EQ(ids.at(i), i);
  EXPECT_EQ(tokenizer->decode(ids), all);
  EXPECT_EQ(tokenizer->token_bytes(256), "");
  expect_error(ErrorKind::kData, "token id 257", [&] { tokenizer->token_bytes(257); });
}

TEST(MakeTokenizer, UnknownName) {
  expect_error(ErrorKind::kUsage, "unknown tokenizer \"gpt3\"; there are gpt2 and bytes",
               [] { make_tokenizer("gpt3"); });
}

TEST(Utf8Stream, ShowsWholeCharactersOnly) {
  std::string text;
  for (const uint32_t c : {0x41U, 0xE9U, 0x20ACU, 0x1F600U, 0xFFFDU, 0x10FFFFU}) append_utf8(text, c);
  Utf8Stream stream;
  std::string shown;
  for (const char byte : text) {
    const std::string piece = stream.push({&byte, 1});
    for (size_t pos = 0; pos < piece.size(); pos += static_cast<size_t>(utf8_length(piece, pos))) {
      ASSERT_GT(utf8_length(piece, pos), 0) << "a split character after " << shown.size() << " bytes";
    }
    shown += piece;
  }
  EXPECT_EQ(shown, text);
  EXPECT_EQ(stream.finish(), "");
}

TEST(Utf8Stream, InvalidBytesPassAndTheRestComesAtTheEnd) {
  Utf8Stream stream;
  EXPECT_EQ(stream.push("a\xFF\x80"), "a\xFF\x80");  // nothing can complete these
  EXPECT_EQ(stream.push("\xE2\x82"), "");
  EXPECT_EQ(stream.push("z"), "\xE2\x82z");
  EXPECT_EQ(stream.push("\xED\xA0"), "\xED\xA0");  // a surrogate: never valid
  EXPECT_EQ(stream.push("\xF0\x9F\x98"), "");
  EXPECT_EQ(stream.finish(), "\xF0\x9F\x98");
  EXPECT_EQ(stream.finish(), "");
}

}  // namespace
}  // namespace power::data
