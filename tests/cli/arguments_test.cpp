#include "cli/arguments.h"

#include <gtest/gtest.h>

#include "cli/command.h"
#include "tests/support/expect_error.h"

namespace power::cli {
namespace {

using test::expect_error;
using Words = std::vector<std::string>;

Command example(size_t max_operands = 2) {
  return {.name = "example",
          .summary = "an example",
          .operands = "INPUT...",
          .max_operands = max_operands,
          .options = {{.name = "out", .takes = Takes::kOne, .value = "DIR"},
                      {.name = "rate", .takes = Takes::kOne, .value = "F"},
                      {.name = "bias", .takes = Takes::kBoolean},
                      {.name = "data", .takes = Takes::kMany, .value = "FILES", .repeatable = true},
                      {.name = "set", .takes = Takes::kOne, .value = "KEY=VALUE", .repeatable = true},
                      {.name = "mode", .takes = Takes::kOne, .value = "MODE", .choices = {"fast", "exact"}},
                      {.name = "json"}}};
}

TEST(Arguments, ReadsEveryFormOfAnOption) {
  const Arguments arguments = parse(example(), {"first", "--out", "a b", "--rate=1e-3", "--data", "x", "y", "--json",
                                                "second", "--set=a=b", "--set", "c=d,e", "--data=z"});
  EXPECT_EQ(arguments.text("out"), "a b");
  EXPECT_EQ(arguments.number("rate", 0, 0, 1), 1e-3);
  EXPECT_EQ(arguments.texts("data"), Words({"x", "y", "z"}));
  EXPECT_TRUE(arguments.has("json"));
  EXPECT_FALSE(arguments.has("mode"));
  EXPECT_EQ(arguments.texts("set"), Words({"a=b", "c=d,e"}));  // not split at commas
  EXPECT_EQ(arguments.operands(), Words({"first", "second"}));
  EXPECT_EQ(arguments.text("mode", "exact"), "exact");
  EXPECT_EQ(arguments.integer("n", 7), 7);
}

TEST(Arguments, ABooleanTakesAWordThatFollows) {
  EXPECT_EQ(parse(example(), {"--bias", "False"}).text("bias"), "False");
  EXPECT_EQ(parse(example(), {"--bias=False"}).text("bias"), "False");
  EXPECT_EQ(parse(example(), {"--bias"}).text("bias"), "True");
  EXPECT_EQ(parse(example(), {"--bias", "--json"}).text("bias"), "True");
}

TEST(Arguments, ValuesMayLookOdd) {
  EXPECT_EQ(parse(example(), {"--out", "-"}).text("out"), "-");
  EXPECT_EQ(parse(example(), {"--out", "-1"}).text("out"), "-1");
  EXPECT_EQ(parse(example(), {"--out="}).text("out"), "");
  EXPECT_EQ(parse(example(), {"--out=--json"}).text("out"), "--json");
  EXPECT_EQ(parse(example(), {"-"}).operands(), Words({"-"}));
  EXPECT_EQ(parse(example(), {"--", "--json"}).operands(), Words({"--json"}));
}

TEST(Arguments, RefusesWhatItCannotRead) {
  struct Case {
    Words words;
    const char* message;
  };
  const Case cases[] = {
      {{"--jsn"}, "unknown option --jsn; the nearest is --json"},
      {{"--outt=x"}, "unknown option --outt; the nearest is --out"},
      {{"--qiet"}, "unknown option --qiet; the nearest is --quiet"},
      {{"-o", "x"}, "unknown option '-o'; options begin with two dashes"},
      {{"--out"}, "--out needs a value: --out=DIR"},
      {{"--out", "--json"}, "--out needs a value"},
      {{"--data", "--json"}, "--data needs at least one value"},
      {{"--out", "a", "--out", "b"}, "--out is given twice"},
      {{"--bias", "--bias=False"}, "--bias is given twice"},
      {{"--json", "--json"}, "--json is given twice"},
      {{"--json=1"}, "--json takes no value, found '1'"},
      {{"--mode=slow"}, "--mode=slow: use fast, exact"},
      {{"a", "b", "c"}, "unexpected word 'c'"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.message);
    expect_error(ErrorKind::kUsage, c.message, [&] { parse(example(), c.words); });
  }
  expect_error(ErrorKind::kUsage, "options begin with two dashes: --rate=1", [] { parse(example(0), {"rate=1"}); });
  expect_error(ErrorKind::kUsage, "given by --config a.yaml", [] { parse(example(0), {"a.yaml"}); });
}

TEST(Arguments, NumbersCountWhole) {
  for (const char* text : {"1e-3x", "", "x", "0x1", "nan", "1,5", "2", "-1"}) {
    const Arguments arguments = parse(example(), {std::string("--rate=") + text});
    SCOPED_TRACE(text);
    expect_error(ErrorKind::kUsage, "use a number >= 0 and <= 1", [&] { arguments.number("rate", 0, 0, 1); });
  }
  for (const char* text : {"08", "1.5", "1e3", "", "99999999999999999999", "0", "11"}) {
    const Arguments arguments = parse(example(), {std::string("--rate=") + text});
    SCOPED_TRACE(text);
    expect_error(ErrorKind::kUsage, "use a whole number >= 1 and <= 10", [&] { arguments.integer("rate", 1, 1, 10); });
  }
}

TEST(Arguments, RequiredOnesAreAskedFor) {
  Command command = example();
  command.options[0].required = true;
  expect_error(ErrorKind::kUsage, "--out is missing: --out DIR", [&] { parse(command, {"--json"}); });
  command = example();
  command.min_operands = 1;
  expect_error(ErrorKind::kUsage, "INPUT... is missing", [&] { parse(command, {"--json"}); });
}

// The table itself: every command can be shown, completed and run.
TEST(Commands, AreComplete) {
  for (const Command& command : commands()) {
    SCOPED_TRACE(command.name);
    EXPECT_NE(command.run, nullptr);
    EXPECT_FALSE(command.summary.empty());
    ASSERT_FALSE(command.examples.empty());
    const std::string help = command_help(command);
    for (const Option& option : command.options) {
      EXPECT_FALSE(option.help.empty()) << option.name;
      EXPECT_EQ(option.value.empty(), option.takes == Takes::kNothing) << option.name;
      EXPECT_NE(help.find("--" + option.name), std::string::npos) << option.name;
    }
    for (const std::string& example : command.examples) {
      EXPECT_NE(example.find("powertrain " + command.name), std::string::npos) << example;
      EXPECT_NE(help.find(example), std::string::npos) << example;
    }
    EXPECT_EQ(command.min_operands > command.max_operands, false);
    EXPECT_EQ(command.operands.empty(), command.max_operands == 0);
    EXPECT_NE(program_help().find(command.name), std::string::npos);
  }
}

}  // namespace
}  // namespace power::cli
