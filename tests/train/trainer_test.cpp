#include "train/trainer.h"

#include <torch/utils.h>

#include <cmath>
#include <csignal>
#include <thread>

#include "core/error.h"
#include "core/file.h"
#include "core/interrupt.h"
#include "fixtures.h"
#include "tests/support/expect_error.h"
#include "tests/support/gpu.h"
#include "train/run_folder.h"
#include "train/train.h"

namespace power::train {
namespace {

std::string weights_of(const std::filesystem::path& checkpoint) {
  return read_file(checkpoint / "model.safetensors") + read_file(checkpoint / "optimizer.safetensors") +
         read_file(checkpoint / "random.safetensors");
}

// The lines of metrics.jsonl without what a clock measured.
std::vector<std::string> losses_of(const std::filesystem::path& run) {
  std::vector<std::string> lines;
  std::ifstream file(run / "metrics.jsonl");
  for (std::string line; std::getline(file, line);) {
    nlohmann::json json = nlohmann::json::parse(line);
    for (const char* key : {"step_ms", "tokens_per_s", "memory_bytes", "mfu", "time"}) json.erase(key);
    lines.push_back(json.dump());
  }
  return lines;
}

TEST(Trainer, LearnsTheText) {
  const test::TempFolder folder;
  config::RunConfig config = tiny_config(folder.path());
  config.max_iters = config.lr_decay_iters = 60;
  config.eval_interval = 60;
  train(config);
  const std::vector<std::string> lines = losses_of(config.out_dir);
  const double before = nlohmann::json::parse(lines.front())["val_loss"];
  const double after = nlohmann::json::parse(lines.back())["val_loss"];
  EXPECT_NEAR(before, std::log(320), 0.3);  // a fresh model knows nothing: uniform over the padded vocabulary
  EXPECT_LT(after, 2.0);
  EXPECT_TRUE(std::filesystem::exists(folder.path() / "run" / "loss.svg"));
}

// Promise: interrupted at any step, the rest of the run is bitwise the same.
TEST(Trainer, ResumesBitwiseFromEveryStep) {
  const test::TempFolder folder;
  config::RunConfig config = tiny_config(folder.path());
  config.dropout = 0.1;  // draws from the random generator, whose state has to come back too
  config.save_interval = 1;
  config.keep_last = 100;
  train(config);
  const std::filesystem::path whole = config.out_dir;
  const std::string expected = weights_of(whole / "ckpt" / "step-00000008");

  for (int64_t step = 1; step < config.max_iters; ++step) {
    SCOPED_TRACE(step);
    config::RunConfig part = config;
    part.out_dir = (folder.path() / ("part-" + std::to_string(step))).string();
    part.max_iters = step;
    train(part);
    part.max_iters = config.max_iters;
    part.init_from = "resume";
    train(part);
    EXPECT_TRUE(weights_of(std::filesystem::path(part.out_dir) / "ckpt" / "step-00000008") == expected);
    // Evaluations happen at the end of the shortened run too; every line of the whole run must be there unchanged.
    const std::vector<std::string> lines = losses_of(part.out_dir);
    for (const std::string& line : losses_of(whole)) {
      EXPECT_NE(std::find(lines.begin(), lines.end(), line), lines.end()) << line;
    }
  }
}

TEST(Trainer, ValidationDataOfOneTokenIsRefusedBeforeAnythingIsTouched) {
  const test::TempFolder folder;
  config::RunConfig config = tiny_config(folder.path());
  test::write_raw(folder / "data" / "tiny" / "val.bin", sample_tokens(1));
  test::expect_error(ErrorKind::kData, "val.bin: the validation data has 1 token, of which nothing can be predicted",
                     [&] { train(config); });
  EXPECT_FALSE(std::filesystem::exists(config.out_dir));
  config.disable_eval = true;
  config.max_iters = 1;
  train(config);
}

TEST(Trainer, MicroStepsOfOneStepEqualOneLargeBatch) {
  const test::TempFolder folder;
  config::RunConfig config = tiny_config(folder.path());
  config.batch_size = 8;
  config.gradient_accumulation_steps = 1;
  Trainer large(config);
  config.batch_size = 2;
  config.gradient_accumulation_steps = 4;
  Trainer split(config);
  for (int i = 0; i < 4; ++i) {
    const StepResult a = large.step(), b = split.step();
    EXPECT_NEAR(a.loss(), b.loss(), 1e-5) << "step " << i;
    EXPECT_NEAR(a.grad_norm(), b.grad_norm(), 1e-4) << "step " << i;
  }
}

// Every operation of a step has a deterministic form on the GPU: LibTorch throws where one has not.
TEST(GpuTrainer, DeterministicStepsAreBitwiseTheSameTwice) {
  SKIP_WITHOUT_GPU();
  const test::TempFolder folder;
  config::RunConfig config = tiny_config(folder.path());
  config.device = "cuda";
  config.head_size = 32;
  config.dropout = 0.1;
  config.attention_kernel = {"power", "sdpa"};
  for (const char* dtype : {"float32", "bfloat16", "float16"}) {
    SCOPED_TRACE(dtype);
    config.dtype = dtype;
    std::vector<torch::Tensor> expected;
    for (int round = 0; round < 2; ++round) {
      Trainer trainer(config);
      for (int i = 0; i < 3; ++i) trainer.step();
      for (const torch::Tensor& parameter : trainer.model()->parameters()) {
        if (round == 0) expected.push_back(parameter.detach().clone());
      }
      const std::vector<torch::Tensor> found = trainer.model()->parameters();
      for (size_t i = 0; i < found.size(); ++i) EXPECT_TRUE(torch::equal(found[i], expected[i])) << "parameter " << i;
    }
  }
  at::globalContext().setDeterministicAlgorithms(false, false);
}

TEST(Trainer, StopsOnASignalWithACheckpoint) {
  const test::TempFolder folder;
  config::RunConfig config = tiny_config(folder.path());
  config.max_iters = config.lr_decay_iters = 1000000;
  config.disable_eval = true;
  config.save_interval = 1000000;
  install_interrupt_handlers();
  clear_interrupt();
  std::thread sender([] {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    std::raise(SIGTERM);
  });
  try {
    train(config);
    ADD_FAILURE() << "the run did not stop";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kPreempted);
    EXPECT_NE(std::string(error.what()).find("--init_from=resume"), std::string::npos) << error.what();
  }
  sender.join();
  clear_interrupt();
  const auto found = checkpoint::resolve(config.out_dir);
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(checkpoint::verify(*found), "");
}

TEST(Trainer, ASignalDuringEvaluationLosesNothing) {
  const test::TempFolder folder;
  const config::RunConfig config = tiny_config(folder.path());
  std::filesystem::create_directories(config.out_dir);
  Trainer trainer(config);
  install_interrupt_handlers();
  clear_interrupt();
  std::raise(SIGTERM);  // the evaluation before the first step sees it
  try {
    trainer.run();
    ADD_FAILURE() << "the run did not stop";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kPreempted);
    EXPECT_NE(std::string(error.what()).find("after step 1"), std::string::npos) << error.what();
  }
  clear_interrupt();
  EXPECT_EQ(trainer.last_checkpoint().filename(), "step-00000001");
}

TEST(Trainer, TheLastSaveMustSucceed) {
  const test::TempFolder folder;
  config::RunConfig config = tiny_config(folder.path());
  config.max_iters = 2;
  config.disable_eval = true;
  std::filesystem::create_directories(config.out_dir);
  std::ofstream(folder.path() / "run" / "ckpt") << "a file where the folder should be";
  EXPECT_THROW(train(config), Error);
}

TEST(Trainer, TimeLimitStopsWithACheckpoint) {
  const test::TempFolder folder;
  config::RunConfig config = tiny_config(folder.path());
  config.max_iters = config.lr_decay_iters = 1000000;
  config.disable_eval = true;
  config.time_limit = 0.2 / 60;
  try {
    train(config);
    ADD_FAILURE() << "the run did not stop";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kPreempted);
    EXPECT_NE(std::string(error.what()).find("time_limit"), std::string::npos) << error.what();
  }
  EXPECT_TRUE(checkpoint::resolve(config.out_dir).has_value());
}

TEST(Trainer, NonFiniteStepsAreSkippedThenEndTheRun) {
  const test::TempFolder folder;
  config::RunConfig config = tiny_config(folder.path());
  config.max_iters = 20;
  Trainer trainer(config);
  const torch::NoGradGuard no_grad;
  trainer.model()->named_parameters()["transformer.ln_f.weight"].fill_(std::nan(""));
  const torch::Tensor other = trainer.model()->named_parameters()["transformer.h.0.mlp.c_fc.weight"];
  const torch::Tensor before = other.clone();
  std::filesystem::create_directories(config.out_dir);
  try {
    const torch::AutoGradMode with_grad(true);
    trainer.run();
    ADD_FAILURE() << "the run went on";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kNonFinite) << error.what();
  }
  EXPECT_TRUE(torch::equal(other, before));
}

TEST(Train, RefusesToStartOverAnOldRun) {
  const test::TempFolder folder;
  config::RunConfig config = tiny_config(folder.path());
  config.max_iters = 2;
  train(config);
  try {
    train(config);
    ADD_FAILURE() << "started over silently";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUsage);
    EXPECT_NE(std::string(error.what()).find("--init_from=resume"), std::string::npos) << error.what();
  }
  config.overwrite = true;
  train(config);
  EXPECT_TRUE(std::filesystem::exists(folder.path() / "run.old-1" / "ckpt" / "step-00000002"));
}

TEST(Train, RefusesAnotherModelOnResume) {
  const test::TempFolder folder;
  config::RunConfig config = tiny_config(folder.path());
  config.max_iters = 2;
  train(config);
  config.init_from = "resume";
  config.n_head = 4;
  try {
    train(config);
    ADD_FAILURE() << "resumed with another model";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUsage);
    EXPECT_NE(std::string(error.what()).find("n_head"), std::string::npos) << error.what();
  }
}

TEST(Train, ResumeSkipsABrokenCheckpointAndNeverStartsOverSilently) {
  const test::TempFolder folder;
  config::RunConfig config = tiny_config(folder.path());
  config.max_iters = 4;
  config.save_interval = 2;
  train(config);
  const std::filesystem::path ckpt = folder.path() / "run" / "ckpt";
  std::filesystem::resize_file(ckpt / "step-00000004" / "model.safetensors", 100);
  config.init_from = "resume";
  Trainer trainer(config);
  trainer.resume(checkpoint::Reader(*checkpoint::resolve(config.out_dir)));
  EXPECT_EQ(trainer.progress().step, 2);

  std::filesystem::resize_file(ckpt / "step-00000002" / "model.safetensors", 100);
  try {
    train(config);
    ADD_FAILURE() << "started over silently";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kData);
  }
}

TEST(Train, RefusesDataOfAnotherTokenizer) {
  const test::TempFolder folder;
  config::RunConfig config = tiny_config(folder.path());
  const std::filesystem::path data = folder.path() / "data" / "tiny";
  std::ofstream(data / "manifest.json") << R"({"format": "powertrain tokens", "version": 1, "tokenizer": "bytes",
    "vocab_size": 257, "document": "file", "val_fraction": 0.1, "seed": 2357, "inputs": ["text.txt"], "files": [
      {"name": "train.bin", "split": "train", "tokens": 4000, "documents": 1, "text_bytes": 4000, "largest_id": 256,
       "xxh3_128": "00000000000000000000000000000000"},
      {"name": "val.bin", "split": "val", "tokens": 700, "documents": 1, "text_bytes": 700, "largest_id": 256,
       "xxh3_128": "00000000000000000000000000000000"}]})";
  EXPECT_NO_THROW(Trainer{config});
  config.tokenizer = "gpt2";
  try {
    Trainer trainer(config);
    ADD_FAILURE() << "byte tokens were taken for GPT-2 tokens";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kData);
    EXPECT_NE(std::string(error.what()).find("--tokenizer=bytes"), std::string::npos) << error.what();
  }
}

TEST(RunFolder, SecondTrainerIsRefused) {
  const test::TempFolder folder;
  const RunFolder first(folder.path() / "run");
  try {
    const RunFolder second(folder.path() / "run/");
    ADD_FAILURE() << "two trainers hold one run folder";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUsage);
  }
}

}  // namespace
}  // namespace power::train
