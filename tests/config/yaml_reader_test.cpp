#include "config/yaml_reader.h"

#include <gtest/gtest.h>

#include "tests/support/expect_error.h"

namespace power::config {
namespace {

using test::expect_error;

TEST(YamlReader, ReadsScalarsAndListsAsText) {
  const auto entries = read_yaml(
      "# comment\n"
      "n_layer: 4\n"
      "\n"
      "dataset: \"a: b\"  # comment\n"
      "attention_kernel: [power, sdpa]\n"
      "octal: 010\n"
      "yes_is_text: yes\n",
      "f.yaml");
  ASSERT_EQ(entries.size(), 5u);
  const std::string expected[][2] = {{"n_layer", "4"},
                                     {"dataset", "a: b"},
                                     {"attention_kernel", "[power, sdpa]"},
                                     {"octal", "010"},
                                     {"yes_is_text", "yes"}};
  const int lines[] = {2, 4, 5, 6, 7};
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(entries[i].key, expected[i][0]);
    EXPECT_EQ(entries[i].value, expected[i][1]);
    EXPECT_EQ(entries[i].line, lines[i]);
  }
}

TEST(YamlReader, ReadsQuotesToTheirEnd) {
  const auto entries =
      read_yaml("\xEF\xBB\xBF\"a\": 'it''s'\r\n'b': \"say \\\"x\\\"\" # it's\r\nc: [\"d\", 'e']\n", "f");
  ASSERT_EQ(entries.size(), 3u);
  EXPECT_EQ(entries[0].value, "it's");
  EXPECT_EQ(entries[1].value, "say \"x\"");
  EXPECT_EQ(entries[2].value, "[d, e]");
}

TEST(YamlReader, AnEmptyFileSetsNothing) {
  for (const char* text : {"", "\n", "# only a comment\n", "---\n", "\xEF\xBB\xBF"})
    EXPECT_TRUE(read_yaml(text, "f").empty());
}

TEST(YamlReader, RefusesWhateverIsNotAFlatMapping) {
  struct Case {
    const char* text;
    const char* message;
  };
  const Case cases[] = {
      {"a: 1\na: 2\n", "f.yaml:2: 'a' is set twice, first in line 1"},
      {"a: 1\n\"a\": 2\n", "f.yaml:2: 'a' is set twice"},
      {"a: 1\nb:\n", "f.yaml:2: 'b' has no value"},
      {"a: ~\n", "f.yaml:1: 'a' has no value"},
      {"a: null\n", "f.yaml:1: 'a' has no value"},
      {"a:\n  b: 1\n", "f.yaml:2: a mapping inside the mapping"},
      {"a: {b: 1}\n", "f.yaml:1: a mapping inside the mapping"},
      {"a: [[1], 2]\n", "f.yaml:1: a list in a list"},
      {"a: [1, {b: 2}]\n", "f.yaml:1: a list holds plain values only"},
      {"a: [1, ]\nb: [~]\n", "f.yaml:2: an empty entry in the list"},
      {"a: [\"x,y\"]\n", "f.yaml:1: 'x,y' cannot be in a list"},
      {"- a\n- b\n", "f.yaml:1: a list; write KEY: VALUE lines"},
      {"just words\n", "f.yaml:1: not a mapping"},
      {"? [a]\n: 1\n", "f.yaml:1: a list as a key"},
      {"a: &x 1\n", "f.yaml:1: anchors are not read"},
      {"a: &x 1\nb: *x\n", "f.yaml:1: anchors are not read"},
      {"b: *x\n", "f.yaml:1: not YAML"},
      {"a: !!int 1\n", "f.yaml:1: tags are not read"},
      {"a: !custom 1\n", "f.yaml:1: tags are not read"},
      {"a: 1\n---\nb: 2\n", "f.yaml:2: a second document"},
      {"a: 1\n  b: 2\n", "f.yaml:2: not YAML"},
      {"a: \"open\n", "f.yaml:1: the quote is not closed"},
      {"a: 'open\nb: 2\n", "f.yaml:1: the quote is not closed"},
      {"a: 'it''s\nb: 'x'\n", "f.yaml:1: the quote is not closed"},
      {"a: \"open\\\"\n", "f.yaml:1: the quote is not closed"},
      {"a: 1\nb: \"two\n  lines\"\n", "f.yaml:2: the quote is not closed"},
      {"a: [1\n", "a list holds plain values only, and ends with ]"},
      {"a: 1\n\x04\nb: 2\n", "f.yaml:2: control character 4"},
      {"a: 1\nb: \xff\n", "f.yaml:2: not UTF-8"},
      {"a: \xed\xa0\x80\n", "f.yaml:1: not UTF-8"},
      {"a: \xc0\xaf\n", "f.yaml:1: not UTF-8"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.text);
    expect_error(ErrorKind::kUsage, c.message, [&] { read_yaml(c.text, "f.yaml"); });
  }
  // Zero bytes, as in UTF-16.
  expect_error(ErrorKind::kUsage, "f.yaml:1: control character 0",
               [] { read_yaml(std::string_view("a\0:\0 \0001\0", 8), "f.yaml"); });
}

TEST(YamlReader, RefusesHugeAndDeepInput) {
  const std::string line = "# 3456789012345678901234567890123456789012345678901234567890\n";
  std::string text;
  while (text.size() + line.size() <= size_t{1} << 20) text += line;
  EXPECT_TRUE(read_yaml(text, "f").empty());
  text += line;
  expect_error(ErrorKind::kUsage, "at most 1 MB", [&] { read_yaml(text, "f"); });
  for (const char* open : {"[", "{", "- ", "? "}) {
    std::string deep = "a: ";
    for (int i = 0; i < 100000; ++i) deep += open;
    SCOPED_TRACE(open);
    expect_error(ErrorKind::kUsage, "f:", [&] { read_yaml(deep, "f"); });
  }
}

TEST(YamlReader, ScalarsReadBackAsTheyWere) {
  for (const std::string text : {"plain",
                                 "runs/a-b_c.1",
                                 "cuda:1",
                                 "None",
                                 "",
                                 " ",
                                 "a b",
                                 "a: b",
                                 "a #b",
                                 "'",
                                 "\"",
                                 "\\",
                                 "null",
                                 "~",
                                 "- a",
                                 "-",
                                 "---",
                                 "...",
                                 "[a]",
                                 "{a}",
                                 "&a",
                                 "*a",
                                 "!a",
                                 "|",
                                 ">",
                                 "@a",
                                 "`a",
                                 "%a",
                                 "ends:",
                                 ":starts",
                                 "\xc3\xa9t\xc3\xa9",
                                 "a,b",
                                 "?",
                                 "<<"}) {
    SCOPED_TRACE(text);
    const auto entries = read_yaml("key: " + yaml_scalar(text) + "\n", "f");
    ASSERT_EQ(entries.size(), 1u);
    EXPECT_EQ(entries[0].value, text);
  }
}

}  // namespace
}  // namespace power::config
