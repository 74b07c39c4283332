#include "data/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <vector>

#include "data/permutation.h"
#include "tests/support/expect_error.h"

namespace power::data {
namespace {

TEST(Permutation, IsOne) {
  for (const uint64_t size : {1, 2, 3, 4, 5, 7, 8, 9, 63, 64, 65, 1000, 1025, 4096, 65537}) {
    for (uint64_t seed = 0; seed < 3; ++seed) {
      const Permutation order(size, seed, 5);
      std::vector<bool> seen(size);
      for (uint64_t i = 0; i < size; ++i) {
        const uint64_t to = order(i);
        ASSERT_LT(to, size);
        ASSERT_FALSE(seen[to]) << "size " << size << " seed " << seed << " gives " << to << " twice";
        seen[to] = true;
      }
    }
  }
}

TEST(Permutation, WorksOnTheLargestSizes) {
  const uint64_t size = (uint64_t{1} << 62) - 3;
  const Permutation order(size, 1, 0);
  std::set<uint64_t> seen;
  for (uint64_t i = 0; i < 1000; ++i) {
    EXPECT_LT(order(size - 1 - i), size);
    seen.insert(order(size - 1 - i));
  }
  EXPECT_EQ(seen.size(), 1000u);
}

// Each place gets each number about equally often over seeds: chi-squared, 9 standard deviations of room.
TEST(Permutation, PlacesAreUniformOverSeedsAndStreams) {
  constexpr uint64_t kSize = 50;
  constexpr int kTrials = 20000;
  for (const bool by_stream : {false, true}) {
    for (const uint64_t place : {uint64_t{0}, uint64_t{1}, kSize - 1}) {
      std::vector<int> counts(kSize);
      for (uint64_t t = 0; t < kTrials; ++t) {
        ++counts[Permutation(kSize, by_stream ? 1 : t, by_stream ? t : 1)(place)];
      }
      double chi = 0;
      const double expected = static_cast<double>(kTrials) / kSize;
      for (const int count : counts) chi += (count - expected) * (count - expected) / expected;
      EXPECT_LT(std::abs(chi - (kSize - 1)), 9 * std::sqrt(2.0 * (kSize - 1))) << "place " << place;
    }
  }
}

// Neighbours in order are no neighbours in the text: the mean distance of a random order is a third of the size.
TEST(Permutation, NeighboursAreSpread) {
  constexpr uint64_t kSize = 10007;
  const Permutation order(kSize, 3, 0);
  double sum = 0;
  for (uint64_t i = 1; i < kSize; ++i) {
    sum += std::abs(static_cast<double>(order(i)) - static_cast<double>(order(i - 1)));
  }
  EXPECT_NEAR(sum / (kSize - 1) / kSize, 1.0 / 3, 0.02);
}

TEST(Sampler, AnEpochReadsEveryWindowOnce) {
  const Sampler sampler(/*num_tokens=*/1000, /*seq_len=*/7, /*seed=*/42);
  EXPECT_EQ(sampler.windows_per_epoch(), 142);  // 142 * 7 + 1 = 995
  EXPECT_EQ(sampler.dropped_tokens(), 5);
  std::vector<std::vector<int64_t>> epochs;
  for (int64_t epoch = 0; epoch < 3; ++epoch) {
    std::set<int64_t> starts;
    epochs.emplace_back();
    for (int64_t i = 0; i < 142; ++i) {
      const int64_t start = sampler.first_token(epoch * 142 + i);
      EXPECT_EQ(start % 7, 0);
      EXPECT_GE(start, 0);
      EXPECT_LE(start + 7, 999);
      starts.insert(start);
      epochs.back().push_back(start);
    }
    EXPECT_EQ(starts.size(), 142u);
  }
  EXPECT_NE(epochs[0], epochs[1]);
  EXPECT_NE(epochs[1], epochs[2]);
}

TEST(Sampler, IsAFunctionOfSeedAndSampleAlone) {
  const Sampler first(100000, 16, 1), again(100000, 16, 1), other(100000, 16, 2);
  int equal = 0;
  for (int64_t sample = 20000; sample-- > 0;) {
    EXPECT_EQ(first.first_token(sample), again.first_token(sample));
    equal += first.first_token(sample) == other.first_token(sample) ? 1 : 0;
  }
  EXPECT_LT(equal, 40);  // about 3 by chance
}

// A run started with one version must go on with the same order in the next.
TEST(Sampler, TheOrderIsPinned) {
  const Sampler sampler(1001, 10, 1337);
  std::vector<int64_t> starts;
  for (const int64_t sample : {0, 1, 2, 99, 100, 1234567}) starts.push_back(sampler.first_token(sample));
  EXPECT_EQ(starts, (std::vector<int64_t>{390, 70, 920, 750, 120, 170}));
}

TEST(Sampler, TooFewTokens) {
  test::expect_error(ErrorKind::kData, "the training data has 16 tokens, one window takes 17",
                     [] { Sampler(16, 16, 0); });
  EXPECT_EQ(Sampler(17, 16, 0).windows_per_epoch(), 1);
  EXPECT_EQ(Sampler(17, 16, 0).dropped_tokens(), 0);
  EXPECT_EQ(Sampler(32, 16, 0).dropped_tokens(), 15);
}

}  // namespace
}  // namespace power::data
