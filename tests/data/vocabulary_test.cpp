#include <gtest/gtest.h>

#include "core/file.h"
#include "data/gpt2_vocabulary.h"
#include "tests/support/expect_error.h"
#include "tests/support/paths.h"

namespace power::data {
namespace {

using test::expect_error;

TEST(Gpt2Vocabulary, ThePublishedFilesAgree) {
  const std::filesystem::path folder = test::source_dir() / "data" / "gpt2";
  const Gpt2Vocabulary vocabulary = parse_gpt2_merges(read_file(folder / "vocab.bpe"));
  EXPECT_EQ(vocabulary.merges.size(), 50000u);
  std::string encoder = read_file(folder / "encoder.json");
  check_gpt2_encoder(vocabulary, encoder);
  const size_t the = encoder.find("\"\\u0120the\": 262");
  ASSERT_NE(the, std::string::npos);
  encoder.replace(the, 16, "\"\\u0120the\": 263");
  expect_error(ErrorKind::kData, "has number 263", [&] { check_gpt2_encoder(vocabulary, encoder); });
}

TEST(Gpt2Vocabulary, DamagedFilesAreNamedWithTheirLine) {
  const auto parse = [](const std::string& text) { return [text] { parse_gpt2_merges(text); }; };
  const std::string head = "#version: 0.2\n";
  expect_error(ErrorKind::kData, "vocab.bpe:1: expected #version:", parse("a b\n"));
  expect_error(ErrorKind::kData, "holds no merges", parse(head));
  expect_error(ErrorKind::kData, "vocab.bpe:2: expected two tokens", parse(head + "ab\n"));
  expect_error(ErrorKind::kData, "vocab.bpe:2: expected two tokens", parse(head + "a b c\n"));
  expect_error(ErrorKind::kData, "vocab.bpe:2: merges a token that no line", parse(head + "ab c\n"));
  expect_error(ErrorKind::kData, "vocab.bpe:3: makes a token that a line before it made", parse(head + "a b\na b\n"));
  expect_error(ErrorKind::kData, "no character of GPT-2's byte alphabet", parse(head + "a \xFF\n"));
  expect_error(ErrorKind::kData, "no character of GPT-2's byte alphabet", parse(head + "a \xE2\x82\xAC\n"));
  expect_error(ErrorKind::kData, "no character of GPT-2's byte alphabet", parse(head + "a \xC4"));
  std::string doubling = head, token = "a";
  for (int i = 0; i < 12; ++i, token += token) doubling += token + " " + token + "\n";
  expect_error(ErrorKind::kData, "a token of more than 1024 bytes", parse(doubling));

  const Gpt2Vocabulary two = parse_gpt2_merges(head + "a b\n");
  expect_error(ErrorKind::kData, "not a JSON object", [&] { check_gpt2_encoder(two, "[1"); });
  expect_error(ErrorKind::kData, "encoder.json: 1 tokens", [&] { check_gpt2_encoder(two, "{\"a\": 64}"); });
}

}  // namespace
}  // namespace power::data
