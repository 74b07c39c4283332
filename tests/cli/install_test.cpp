#include <gtest/gtest.h>

#include <filesystem>

#include "core/file.h"
#include "core/version.h"
#include "tests/cli/run_program.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"

// `cmake --install` into a folder of its own, and the program there.
namespace power::cli {
namespace {

namespace fs = std::filesystem;
using test::ProgramResult;
using test::run_program;

class Installed : public testing::Test {
 protected:
  void SetUp() override {
    const ProgramResult installed =
        run_program({"--install", test::binary_dir(), "--prefix", prefix()}, {.program = test::cmake()});
    ASSERT_EQ(installed.exit_code, 0) << installed.out << installed.err;
  }
  fs::path prefix() const { return folder_.path() / "prefix"; }
  ProgramResult run(const std::vector<std::string>& arguments,
                    const std::map<std::string, std::string>& environment = {}) {
    return run_program(arguments, {.environment = environment, .program = (prefix() / "bin" / "powertrain").string()});
  }

  test::TempFolder folder_;
};

TEST_F(Installed, FindsLibTorchByItselfOrWhereItIsTold) {
  const ProgramResult recorded = run({"--version"});
  EXPECT_EQ(recorded.exit_code, 0) << recorded.err;
  EXPECT_NE(recorded.out.find(POWERTRAIN_LIBTORCH_PATH), std::string::npos) << recorded.out;

  const fs::path elsewhere = folder_.path() / "elsewhere";
  fs::create_directory_symlink(POWERTRAIN_LIBTORCH_PATH, elsewhere);
  const ProgramResult told = run({"--version"}, {{"POWERTRAIN_LIBTORCH", elsewhere.string()}});
  EXPECT_EQ(told.exit_code, 0) << told.err;
  EXPECT_NE(told.out.find(elsewhere.string()), std::string::npos) << told.out;

  const ProgramResult wrong = run({"--version"}, {{"POWERTRAIN_LIBTORCH", "/nowhere"}});
  EXPECT_EQ(wrong.exit_code, 2);
  EXPECT_NE(wrong.err.find("POWERTRAIN_LIBTORCH=/nowhere: no lib/libtorch_cpu.so there"), std::string::npos)
      << wrong.err;

  for (const char* file : {"lib/libpower_attention.so", "lib/powertrain/powertrain",
                           "share/powertrain/configs/tiny_cpu.yaml", "share/doc/powertrain/configuration.md"}) {
    EXPECT_TRUE(fs::exists(prefix() / file)) << file;
  }
  for (const char* file : {"share/bash-completion/completions/powertrain", "share/zsh/site-functions/_powertrain",
                           "share/fish/vendor_completions.d/powertrain.fish"}) {
    EXPECT_NE(read_file(prefix() / file).find("batch_size"), std::string::npos) << file;
  }
}

}  // namespace
}  // namespace power::cli
