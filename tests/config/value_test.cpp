#include "config/value.h"

#include <gtest/gtest.h>

#include <limits>

#include "config/schema.h"

namespace power::config {
namespace {

TEST(Value, IntegersAreDecimalAndWhole) {
  EXPECT_EQ(parse_integer("0"), 0);
  EXPECT_EQ(parse_integer("-17"), -17);
  EXPECT_EQ(parse_integer("9223372036854775807"), std::numeric_limits<int64_t>::max());
  for (const char* text : {"", " 8", "8 ", "+8", "08", "010", "-01", "0x10", "0o17", "1e3", "1.0", "1_000", "1,000",
                           "8x", "--8", "9223372036854775808", "eight", "1:30"}) {
    EXPECT_EQ(parse_integer(text), std::nullopt) << "'" << text << "'";
  }
}

TEST(Value, NumbersAreDecimalAndFinite) {
  EXPECT_EQ(parse_number("6e-4"), 6e-4);
  EXPECT_EQ(parse_number("0.1"), 0.1);
  EXPECT_EQ(parse_number("-2"), -2.0);
  for (const char* text : {"", "1e-3x", "1e", "0x1p3", "inf", "nan", ".inf", "-inf", "1e999", "010", "00.1", " 1", "1 ",
                           "1,5", "+1", "1e-3 # comment"}) {
    EXPECT_EQ(parse_number(text), std::nullopt) << "'" << text << "'";
  }
}

TEST(Value, BooleansAreFourWords) {
  EXPECT_EQ(parse_boolean("True"), true);
  EXPECT_EQ(parse_boolean("true"), true);
  EXPECT_EQ(parse_boolean("False"), false);
  EXPECT_EQ(parse_boolean("false"), false);
  for (const char* text : {"", "TRUE", "yes", "no", "on", "off", "1", "0", "y", "True "}) {
    EXPECT_EQ(parse_boolean(text), std::nullopt) << "'" << text << "'";
  }
}

TEST(Value, ListsHaveNoEmptyEntries) {
  using List = std::vector<std::string>;
  EXPECT_EQ(parse_list("power"), List({"power"}));
  EXPECT_EQ(parse_list("power,sdpa"), List({"power", "sdpa"}));
  EXPECT_EQ(parse_list("[power, sdpa]"), List({"power", "sdpa"}));
  for (const char* text : {"", "[", "]", "[]", "[power", "power]", "power,", ",power", "power,,sdpa", "[power, ]"}) {
    EXPECT_EQ(parse_list(text), std::nullopt) << "'" << text << "'";
  }
}

TEST(Value, NumbersReadBackAsTheSameNumber) {
  for (const double value :
       {6e-4, 0.1, 1.0 / 3.0, 1e-300, 1.7976931348623157e308, -0.25, 600000.0, 1e15, 123456789.5}) {
    EXPECT_EQ(parse_number(format_value(value)), value) << format_value(value);
  }
}

// One bad and one good value for keys of every type, and what the message offers.
TEST(Value, SetValueSaysWhatIsAllowed) {
  struct Case {
    const char* key;
    const char* good;
    const char* bad;
    const char* offered;
  };
  const Case cases[] = {
      {"batch_size", "8", "0", "a whole number >= 1"},
      {"seed", "0", "-1", "a whole number >= 0"},
      {"head_size", "32", "4096", "a whole number >= 2 and <= 1024"},
      {"learning_rate", "1e-3", "0", "a number > 0 and <= 100"},
      {"beta2", "0.99", "1", "a number >= 0 and < 1"},
      {"grad_clip", "0", "-1", "a number >= 0"},
      {"bias", "True", "yes", "True or False"},
      {"tokenizer", "bytes", "gpt-2", "gpt2 or bytes"},
      {"chunk_size", "None", "none", "None, auto or a whole number >= 1"},
      {"chunk_size", "1024", "0", "None, auto or a whole number >= 1"},
      {"chunk_size", "auto", "1024.0", "None, auto or a whole number >= 1"},
      {"device", "cuda:3", "cuda:", "auto, cpu, cuda or cuda:N"},
      {"device", "cpu", "mps", "auto, cpu, cuda or cuda:N"},
      {"attention_kernel", "power,sdpa", "power,flash", "power or sdpa, or a list of them"},
      {"save_interval", "None", "0", "None or a whole number >= 1"},
      {"resume", "runs/a/ckpt/step-00000010", "", "auto, never or PATH"},
      {"out_dir", "runs/a b", "runs/a\nb", "a path"},
      {"init_from", "resume", "gpt2", "scratch or resume"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(std::string(c.key) + "=" + c.bad);
    const Key* key = find_key(c.key);
    ASSERT_NE(key, nullptr);
    RunConfig config;
    ASSERT_EQ(set_value(config, *key, c.good), "");
    const std::string before = get_value(config, *key);
    const std::string problem = set_value(config, *key, c.bad);
    EXPECT_NE(problem.find(c.offered), std::string::npos) << problem;
    EXPECT_NE(problem.find(std::string("'") + c.bad + "'"), std::string::npos) << problem;
    EXPECT_EQ(get_value(config, *key), before) << "a bad value must change nothing";
  }
}

TEST(Value, ALeadingZeroIsExplained) {
  RunConfig config;
  EXPECT_NE(set_value(config, *find_key("n_layer"), "010").find("leading zero"), std::string::npos);
}

}  // namespace
}  // namespace power::config
