#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "core/file.h"
#include "tests/cli/run_program.h"
#include "tests/cli/tiny_train.h"
#include "tests/support/temp_folder.h"
#include "train/run_folder.h"

// How a run is begun and gone on with, as a user meets it: exit codes and messages of the built program.
namespace power::cli {
namespace {

namespace fs = std::filesystem;
using test::contains;
using test::ProgramResult;
using test::run_program;
using test::Words;

class Resume : public testing::Test {
 protected:
  fs::path run() const { return folder_ / "run"; }
  fs::path checkpoint(int64_t step) const { return run() / "ckpt" / ("step-0000000" + std::to_string(step)); }

  ProgramResult train(int64_t steps, Words more = {}) const {
    more.push_back("--max_iters=" + std::to_string(steps));
    more.push_back("--save_interval=1");
    more.push_back(test::shipped_data());
    return run_program(test::tiny_train(run(), more));
  }
  // Exit code, the message on stderr, nothing on stdout.
  void expect_refused(const ProgramResult& result, int exit_code, const std::string& message) const {
    EXPECT_EQ(result.exit_code, exit_code) << result.err;
    EXPECT_PRED2(contains, result.err, message);
    EXPECT_EQ(result.out, "");
  }

  test::TempFolder folder_;
};

TEST_F(Resume, AnEarlierRunIsNeverOverwrittenUnasked) {
  EXPECT_EQ(train(2).exit_code, 0);
  const std::string before = read_file(checkpoint(2) / "manifest.json");
  const ProgramResult refused = train(2);
  expect_refused(refused, 2, "holds checkpoints of an earlier run. To go on with it: `");
  EXPECT_PRED2(contains, refused.err, " train --config=" + (run() / "config.yaml").string() + " --init_from=resume`");
  EXPECT_PRED2(contains, refused.err, "add --overwrite");
  EXPECT_EQ(read_file(checkpoint(2) / "manifest.json"), before);
  const ProgramResult again = train(1, {"--overwrite"});
  EXPECT_EQ(again.exit_code, 0) << again.err;
  EXPECT_PRED2(contains, again.err, "moved the old run to ");
  EXPECT_TRUE(fs::exists(checkpoint(1)));
  EXPECT_FALSE(fs::exists(checkpoint(2)));
}

TEST_F(Resume, AChangedModelKeyIsRefusedAndOtherChangesAreSaid) {
  EXPECT_EQ(train(1).exit_code, 0);
  const Words go_on = {"train", "--config=" + (run() / "config.yaml").string(), "--init_from=resume"};
  const auto with = [&](const Words& more) {
    Words words = go_on;
    words.insert(words.end(), more.begin(), more.end());
    return run_program(words);
  };
  const ProgramResult refused = with({"--n_embd=32", "--degree=4", "--learning_rate=1e-3"});
  expect_refused(refused, 2, "the checkpoint's model has other values; resume with them, or start a new run");
  EXPECT_PRED2(contains, refused.err, "\n  n_embd: 16 -> 32");
  EXPECT_PRED2(contains, refused.err, "\n  degree: 2 -> 4");
  EXPECT_FALSE(contains(refused.err, "learning_rate"));
  const ProgramResult resumed = with({"--max_iters=2", "--learning_rate=1e-3"});
  EXPECT_EQ(resumed.exit_code, 0) << resumed.err;
  EXPECT_PRED2(contains, resumed.err, "changed since the checkpoint: learning_rate: ");
  EXPECT_PRED2(contains, resumed.err, "changed since the checkpoint: max_iters: 1 -> 2");
  EXPECT_PRED2(contains, resumed.err, "resumed from " + checkpoint(1).string() + " at step 1");
}

TEST_F(Resume, TheNewestGoodCheckpointIsTakenAndTheSkippedOneNamed) {
  EXPECT_EQ(train(2).exit_code, 0);
  std::ofstream(checkpoint(2) / "model.safetensors", std::ios::app) << 'x';
  const ProgramResult resumed = train(2, {"--resume=auto"});
  EXPECT_EQ(resumed.exit_code, 0) << resumed.err;
  EXPECT_PRED2(contains, resumed.err, "warning: skipped " + checkpoint(2).string() + ": ");
  EXPECT_PRED2(contains, resumed.err, "bytes, the manifest says");
  EXPECT_PRED2(contains, resumed.err, "resumed from " + checkpoint(1).string() + " at step 1");
  for (int64_t step : {1, 2}) fs::resize_file(checkpoint(step) / "optimizer.safetensors", 100);
  // Only broken ones: no silent start from scratch.
  const ProgramResult broken = train(3, {"--resume=auto"});
  EXPECT_EQ(broken.exit_code, 3) << broken.err;
  EXPECT_PRED2(contains, broken.err, "it is truncated");
}

TEST_F(Resume, NothingToGoOnFrom) {
  const ProgramResult fresh = train(1, {"--init_from=resume"});
  EXPECT_EQ(fresh.exit_code, 0) << fresh.err;
  EXPECT_PRED2(contains, fresh.err, "no checkpoint in " + run().string() + ": starting at step 0");
  expect_refused(train(1, {"--resume=" + (folder_ / "nowhere").string()}), 3,
                 "nowhere: no such folder; give a run folder or one checkpoint of it");
  expect_refused(run_program({"train", "--config=" + (test::source_dir() / "configs/tiny_cpu.yaml").string(),
                              "--eval_only", "--out_dir=" + (folder_ / "other").string(), test::shipped_data()}),
                 2, "eval_only needs a checkpoint: add --init_from=resume");
  EXPECT_FALSE(fs::exists(folder_ / "other"));
}

TEST_F(Resume, TwoTrainersDoNotShareAFolder) {
  const train::RunFolder held(run().string());
  expect_refused(train(1), 2, "another trainer is writing to this run folder; stop it, or choose another --out_dir");
}

TEST_F(Resume, ABranchNeedsAFolderOfItsOwn) {
  EXPECT_EQ(train(2).exit_code, 0);
  expect_refused(train(3, {"--resume=" + checkpoint(1).string()}), 2,
                 "choose a fresh --out_dir for the run that branches off there");
  Words words = test::tiny_train(folder_ / "branch",
                                 {"--resume=" + checkpoint(1).string(), "--max_iters=2", test::shipped_data()});
  const ProgramResult branch = run_program(words);
  EXPECT_EQ(branch.exit_code, 0) << branch.err;
  EXPECT_PRED2(contains, branch.err, "resumed from " + checkpoint(1).string() + " at step 1");
}

TEST_F(Resume, DataThatIsNotThere) {
  expect_refused(run_program(test::tiny_train(run(), {"--dataset=poems", "--data_root=" + folder_.path().string()})), 3,
                 "poems: no such data set (dataset=poems, data_root=");
  expect_refused(run_program(test::tiny_train(run(), {"--tokenizer=gpt2", test::shipped_data()})), 3,
                 "its manifest says tokenizer bytes, the configuration says gpt2; set --tokenizer=bytes");
  EXPECT_FALSE(fs::exists(run())) << "nothing is touched";
}

}  // namespace
}  // namespace power::cli
