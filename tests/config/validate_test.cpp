#include <gtest/gtest.h>

#include "config/load.h"
#include "tests/support/expect_error.h"

namespace power::config {
namespace {

using test::expect_error;

TEST(Validate, TheDefaultsAreValid) {
  EXPECT_NO_THROW(validate(RunConfig{}));
  EXPECT_TRUE(doubts(RunConfig{}).empty());
}

TEST(Validate, RefusesContradictions) {
  struct Case {
    const char* yaml;
    const char* message;
  };
  const Case cases[] = {
      {"head_size: 33", "head_size 33 is odd"},
      {"n_layer: 3\nattention_kernel: [power, sdpa]", "attention_kernel has 2 entries for 3 layers"},
      {"degree: 5", "degree 5 is not supported; use 1, 2, 3, 4 or a larger even number"},
      {"degree: 4\nchunk_size: 128", "chunk_size 128: degree 4 with head_size 64 has no chunked form"},
      {"degree: 6\nhead_size: 16\nchunk_size: 128", "has no chunked form"},
      {"learning_rate: 1e-5", "min_lr 6e-05 is above learning_rate 1e-05"},
      {"resume: auto\noverwrite: True", "resume=auto and overwrite=True contradict"},
      {"init_from: resume\noverwrite: True", "init_from=resume and overwrite=True contradict"},
      {"eval_only: True\ndisable_eval: True", "eval_only=True and disable_eval=True contradict"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.yaml);
    expect_error(ErrorKind::kUsage, c.message, [&] { from_yaml(c.yaml, "f"); });
  }
}

TEST(Validate, AcceptsWhatTheFormsSupport) {
  for (const char* yaml : {"degree: 6\nchunk_size: None", "degree: 8", "degree: 3\nhead_size: 32\nchunk_size: 64",
                           "degree: 4\nhead_size: 16\nchunk_size: 64", "degree: 1\nchunk_size: 128",
                           "degree: 2\nhead_size: 128", "degree: 5\nattention_kernel: sdpa",
                           "n_layer: 2\nattention_kernel: [power, sdpa]", "learning_rate: 1e-5\ndecay_lr: False",
                           "learning_rate: 1e-4\nmin_lr: 1e-4", "gradient_accumulation_steps: 7"}) {
    SCOPED_TRACE(yaml);
    EXPECT_NO_THROW(from_yaml(yaml, "f"));
  }
}

TEST(Validate, DoubtsAreSaidAndUsed) {
  RunConfig config;
  config.lr_decay_iters = 100;
  ASSERT_EQ(doubts(config).size(), 1u);
  EXPECT_NE(doubts(config)[0].find("warmup_iters 2000 is not below lr_decay_iters 100"), std::string::npos);
  config.decay_lr = false;
  EXPECT_TRUE(doubts(config).empty());
}

}  // namespace
}  // namespace power::config
