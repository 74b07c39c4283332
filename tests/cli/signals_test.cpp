#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <fstream>

#include "core/file.h"
#include "core/str.h"
#include "tests/cli/run_program.h"
#include "tests/cli/tiny_train.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"

// What a signal does to the built program: exit codes, messages, and what it leaves behind.
namespace power::cli {
namespace {

namespace fs = std::filesystem;
using test::contains;
using test::ProgramResult;
using test::run_program;
using test::Words;

class Signals : public testing::Test {
 protected:
  fs::path run_folder() const { return folder_.path() / "run"; }

  // A model that trains within a millisecond a step on the shipped text.
  Words train(const std::string& steps) const {
    return test::tiny_train(run_folder(), {"--log_interval=1", "--max_iters=" + steps, test::shipped_data()});
  }
  void make_checkpoint() const {
    const ProgramResult result = run_program(train("1"));
    ASSERT_EQ(result.exit_code, 0) << result.err;
  }

  test::TempFolder folder_;
};

TEST_F(Signals, TrainSavesSaysHowToGoOnAndExitsWith5) {
  for (const int signal : {SIGINT, SIGTERM, SIGUSR1}) {
    SCOPED_TRACE(signal);
    Words words = train("100000000");
    words.push_back("--resume=auto");
    const ProgramResult result = run_program(words, {.signal = signal, .signal_at = "step "});
    EXPECT_EQ(result.exit_code, 5) << result.err;
    const std::string command = " train --config=" + (run_folder() / "config.yaml").string() + " --init_from=resume`\n";
    EXPECT_TRUE(contains(result.err, str("warning: stopped by SIG", sigabbrev_np(signal), " after step ")))
        << result.err;
    EXPECT_TRUE(contains(result.err, command)) << result.err;
  }
  EXPECT_EQ(run_program({"ckpt", "verify", run_folder().string()}).exit_code, 0);
  // The printed command goes on from there.
  const ProgramResult resumed =
      run_program({"train", "--config=" + (run_folder() / "config.yaml").string(), "--init_from=resume"},
                  {.signal = SIGINT, .signal_at = "step "});
  EXPECT_EQ(resumed.exit_code, 5) << resumed.err;
  EXPECT_TRUE(contains(resumed.err, "resumed from " + (run_folder() / "ckpt").string())) << resumed.err;
}

TEST_F(Signals, EvalAndGenerateEndWith128PlusTheSignal) {
  make_checkpoint();
  const std::string manifest = read_file(run_folder() / "ckpt/step-00000001/manifest.json");
  for (const int signal : {SIGINT, SIGTERM}) {
    SCOPED_TRACE(signal);
    const ProgramResult text = run_program(
        {"generate", "--checkpoint", run_folder().string(), "--prompt", "ROMEO:", "--num_samples", "1000000"},
        {.signal = signal, .signal_at = "ROMEO:"});
    EXPECT_EQ(text.exit_code, 128 + signal) << text.err;
    EXPECT_EQ(text.out.rfind("ROMEO:", 0), 0u) << text.out;
    EXPECT_EQ(text.err.rfind("warning: generation interrupted after ", 0), 0u) << text.err;

    // The training text a window of 16 tokens at a time: a minute.
    const ProgramResult result = run_program({"eval", "--checkpoint", run_folder().string(), "--batch_size", "1",
                                              "--json", "--data", test::source_dir() / "data/shakespeare/train.bin"},
                                             {.signal = signal});
    EXPECT_EQ(result.exit_code, 128 + signal) << result.err;
    EXPECT_EQ(result.out, "");
    EXPECT_EQ(result.err.rfind("warning: evaluation interrupted after ", 0), 0u) << result.err;
  }
  EXPECT_EQ(read_file(run_folder() / "ckpt/step-00000001/manifest.json"), manifest);
  EXPECT_EQ(run_program({"ckpt", "verify", run_folder().string()}).exit_code, 0);
}

}  // namespace
}  // namespace power::cli
