#include "data/loader.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <map>
#include <thread>

#include "tests/data/token_files.h"
#include "tests/support/expect_error.h"
#include "tests/support/gpu.h"
#include "tests/support/temp_folder.h"

namespace power::data {
namespace {

constexpr int64_t kLength = 8;

class LoaderTest : public ::testing::Test {
 protected:
  std::shared_ptr<const Dataset> dataset(size_t tokens) {
    test::write_raw(folder_ / "a.bin", test::counting(tokens / 3));
    test::write_raw(folder_ / "b.bin", test::counting(tokens - tokens / 3, tokens / 3));
    return std::make_shared<Dataset>(std::vector<std::string>{(folder_ / "?.bin").string()}, 50257, Verify::kOff);
  }
  test::TempFolder folder_;
};

// The first token of every window is its place in the text, since the tokens count up.
std::vector<int64_t> starts(const Batch& batch) {
  const torch::Tensor first = batch.tokens.cpu().select(1, 0).contiguous();
  return {first.data_ptr<int64_t>(), first.data_ptr<int64_t>() + first.numel()};
}

TEST_F(LoaderTest, BatchesFollowTheSampler) {
  const auto data = dataset(1001);
  const Sampler sampler(data->size(), kLength, 3);
  LoaderOptions options;
  options.batch_size = 3;
  options.seq_len = kLength;
  Loader loader(data, sampler, options);
  for (int64_t step = 0; step < 100; ++step) {  // more than two epochs
    const Batch batch = loader.next();
    ASSERT_EQ(batch.tokens.sizes(), (std::vector<int64_t>{3, kLength}));
    ASSERT_EQ(batch.targets.sizes(), (std::vector<int64_t>{3, kLength}));
    EXPECT_TRUE(batch.tokens.is_contiguous() && batch.targets.is_contiguous());
    EXPECT_TRUE(torch::equal(batch.targets, batch.tokens + 1));
    for (int64_t b = 0; b < 3; ++b) {
      const int64_t start = sampler.first_token(step * 3 + b);
      EXPECT_TRUE(torch::equal(batch.tokens[b], torch::arange(start, start + kLength)));
    }
  }
}

// Promise 1: the global batch of a step is the same samples for every world size and split into micro-steps.
TEST_F(LoaderTest, TheGlobalBatchDoesNotDependOnTheSplit) {
  const auto data = dataset(1500);
  const Sampler sampler(data->size(), kLength, 11);
  constexpr int64_t kGlobal = 72, kSteps = 3;
  std::vector<int64_t> expected;
  for (int64_t s = 0; s < kGlobal * kSteps; ++s) expected.push_back(sampler.first_token(s));
  int splits = 0;
  for (const int64_t world : {1, 2, 3, 4}) {
    for (const int64_t batch : {1, 2, 6}) {
      SCOPED_TRACE("world " + std::to_string(world) + " batch " + std::to_string(batch));
      const int64_t micro_steps = kGlobal / (world * batch);
      std::vector<int64_t> seen(expected.size());
      for (int64_t rank = 0; rank < world; ++rank) {
        LoaderOptions options;
        options.batch_size = batch;
        options.seq_len = kLength;
        options.rank = rank;
        options.world_size = world;
        Loader loader(data, sampler, options);
        for (int64_t m = 0; m < micro_steps * kSteps; ++m) {
          const std::vector<int64_t> got = starts(loader.next());
          std::copy(got.begin(), got.end(), seen.begin() + (m * world + rank) * batch);
        }
      }
      EXPECT_EQ(seen, expected);
      ++splits;
    }
  }
  EXPECT_EQ(splits, 12);
}

TEST_F(LoaderTest, GoesOnFromTheSamplesConsumed) {
  const auto data = dataset(2000);
  const Sampler sampler(data->size(), kLength, 5);
  LoaderOptions options;
  options.batch_size = 4;
  options.seq_len = kLength;
  Loader whole(data, sampler, options);
  for (int i = 0; i < 7; ++i) whole.next();
  options.first_sample = 28;
  Loader resumed(data, sampler, options);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(starts(whole.next()), starts(resumed.next()));
}

TEST_F(LoaderTest, AnErrorOfTheThreadIsThrownByNext) {
  const auto data = dataset(200000);
  const Sampler sampler(data->size(), 1000, 5);
  LoaderOptions options;
  options.seq_len = 1000;
  Loader loader(data, sampler, options);
  loader.next();
  std::filesystem::resize_file(folder_ / "a.bin", 2);
  std::filesystem::resize_file(folder_ / "b.bin", 2);
  const auto drain = [&] {
    for (int i = 0; i < 10; ++i) loader.next();
  };
  test::expect_error(ErrorKind::kData, "it changed in use", drain);
  test::expect_error(ErrorKind::kData, "it changed in use", [&] { loader.next(); });  // and again
}

TEST_F(LoaderTest, CountsTheTimeItWaits) {
  const auto data = dataset(20000);
  const Sampler sampler(data->size(), 16, 5);
  LoaderOptions options;
  options.seq_len = 16;
  Loader loader(data, sampler, options);
  for (int i = 0; i < 50; ++i) loader.next();
  EXPECT_GT(loader.take_wait_seconds(), 0);
  EXPECT_EQ(loader.take_wait_seconds(), 0);
}

TEST_F(LoaderTest, RefusesWhatCannotBe) {
  const auto data = dataset(2000);
  const Sampler sampler(data->size(), kLength, 5);
  LoaderOptions options;
  options.seq_len = kLength + 1;
  test::expect_error(ErrorKind::kRuntime, "the loader reads windows of 9 tokens, the sampler orders windows of 8",
                     [&] { Loader(data, sampler, options); });
  options.seq_len = kLength;
  options.rank = 2;
  options.world_size = 2;
  test::expect_error(ErrorKind::kRuntime, "rank 2 of 2", [&] { Loader(data, sampler, options); });
}

class GpuLoader : public LoaderTest {};

TEST_F(GpuLoader, BatchesAreThoseOfTheCpu) {
  SKIP_WITHOUT_GPU();
  const auto data = dataset(5000);
  const Sampler sampler(data->size(), 64, 5);
  LoaderOptions options;
  options.batch_size = 4;
  options.seq_len = 64;
  Loader cpu(data, sampler, options);
  options.device = torch::kCUDA;
  Loader gpu(data, sampler, options);
  for (int i = 0; i < 200; ++i) {
    const Batch on_cpu = cpu.next(), on_gpu = gpu.next();
    ASSERT_TRUE(on_gpu.tokens.is_cuda());
    // Work on the current stream right away, and memory freed and taken again, as in training.
    const torch::Tensor sum = on_gpu.tokens.sum() + on_gpu.targets.sum();
    EXPECT_EQ(sum.item<int64_t>(), (on_cpu.tokens.sum() + on_cpu.targets.sum()).item<int64_t>());
    EXPECT_TRUE(torch::equal(on_gpu.tokens.cpu(), on_cpu.tokens));
    EXPECT_TRUE(torch::equal(on_gpu.targets.cpu(), on_cpu.targets));
  }
}

}  // namespace
}  // namespace power::data
