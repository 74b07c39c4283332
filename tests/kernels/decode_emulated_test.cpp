#include <gtest/gtest.h>

#include <cstdlib>
#include <stdexcept>

#include "tests/kernels/decode_case.h"
#include "tests/kernels/host_device.h"

// The decode kernels, run thread by thread on the host (emulator/emulator.h), against the double reference. Windows are
// short, so that few tokens cross several folds.
namespace power::kernels::testing {
namespace {

void check(const DecodeCase& c) {
  SCOPED_TRACE(c.name());
  HostDevice device;
  const DecodeResult result = run_decode_case(device, c);
  EXPECT_TRUE(result.ok()) << result.text();
  if (std::getenv("POWER_TEST_PRINT")) printf("%s:%s\n", c.name().c_str(), result.text().c_str());
}

DecodeCase tokens(int count, Gates gates, int head_dim = 32) {
  DecodeCase c;
  c.tokens = count;
  c.gates = gates;
  c.head_dim = head_dim;
  c.window = 16;
  return c;
}

TEST(DecodeEmulated, GatesAcrossFolds) {
  for (Gates gates : {Gates::kNone, Gates::kMild, Gates::kStrong, Gates::kClosed, Gates::kSegments}) {
    DecodeCase c = tokens(70, gates);
    c.splits = gates == Gates::kNone ? 1 : 3;
    c.kv_heads = 2;
    check(c);
  }
}

TEST(DecodeEmulated, HeadDims) {
  for (int head_dim : {16, 40, 64, 96, 128}) {
    DecodeCase c = tokens(head_dim > 64 ? 20 : 36, Gates::kMild, head_dim);
    c.splits = 2;
    check(c);
  }
}

TEST(DecodeEmulated, GroupsOfQueryHeads) {
  for (int group : {2, 3, 8, 9}) {
    DecodeCase c = tokens(40, Gates::kSegments);
    c.group = group;
    c.batch = 2;
    c.splits = 2;
    check(c);
  }
}

TEST(DecodeEmulated, SeveralTokensAStep) {
  for (const std::vector<int>& steps : {std::vector<int>{2}, {5, 1, 1}, {16}, {31, 2, 1, 7}}) {
    DecodeCase c = tokens(75, steps.size() == 1 ? Gates::kStrong : Gates::kSegments);
    c.window = 32;
    c.steps = steps;
    c.group = 2;
    c.splits = 2;
    check(c);
  }
}

TEST(DecodeEmulated, WindowOf256) {
  for (const std::vector<int>& steps : {std::vector<int>{37}, {200, 1, 1, 60, 1, 1}}) {  // windows above a fold's size
    DecodeCase c = tokens(300, Gates::kMild);
    c.window = 256;
    c.splits = 2;
    c.steps = steps;
    check(c);
  }
}

TEST(DecodeEmulated, DegreesAndNormalisations) {
  for (Normalize normalize : {Normalize::kSum, Normalize::kLayer, Normalize::kNone}) {
    for (int degree : {1, 2}) {
      if (degree == 1 && normalize == Normalize::kSum) continue;  // signed sums vanish: ill-conditioned by definition
      DecodeCase c = tokens(40, Gates::kSegments, 40);
      c.degree = degree;
      c.normalize = normalize;
      c.scale = degree == 1 ? -0.3 : 0.2;
      c.splits = degree == 1 ? 7 : 2;  // more than a state of degree 1 has steps
      check(c);
    }
  }
}

TEST(DecodeEmulated, InputSizes) {
  for (double magnitude : {1e-3, 30.0}) {
    DecodeCase c = tokens(40, Gates::kMild);
    c.magnitude = magnitude;
    check(c);
  }
}

TEST(DecodeEmulated, StatesOutAndIn) {
  for (int head_dim : {40, 64}) {
    for (int degree : {1, 2}) {
      DecodeCase c = tokens(40, degree == 1 ? Gates::kMild : Gates::kSegments, head_dim);
      c.convert_at = head_dim == 40 ? 27 : 5;
      c.degree = degree;
      c.normalize = degree == 1 ? Normalize::kNone : Normalize::kSum;
      c.batch = 2;
      c.splits = 2;
      check(c);
    }
  }
}

TEST(DecodeEmulated, SequencesAreIndependent) {
  DecodeCase c = tokens(40, Gates::kSegments);
  c.batch = 3;
  HostDevice device;
  const std::vector<uint16_t> before = run_decode_case(device, c).bits;
  c.changed = 1;
  const std::vector<uint16_t> after = run_decode_case(device, c).bits;
  const auto part = static_cast<std::ptrdiff_t>(before.size() / 3);
  EXPECT_TRUE(std::equal(before.begin(), before.begin() + part, after.begin()));
  EXPECT_FALSE(std::equal(before.begin() + part, before.begin() + 2 * part, after.begin() + part));
  EXPECT_TRUE(std::equal(before.begin() + 2 * part, before.end(), after.begin() + 2 * part));
}

// What measured best on an H200 (docs/performance.md).
TEST(DecodeEmulated, SplitsOfADevice) {
  const auto splits = [](int batch, int kv_heads, int group, int head_dim, int query_len) {
    DecodeShape shape;
    shape.batch = batch;
    shape.kv_heads = kv_heads;
    shape.group = group;
    shape.head_dim = head_dim;
    return decode_splits(shape, query_len, 132);
  };
  EXPECT_EQ(splits(1, 12, 1, 64, 1), 33);
  EXPECT_EQ(splits(8, 12, 1, 64, 1), 17);
  EXPECT_EQ(splits(64, 12, 1, 64, 1), 6);
  EXPECT_EQ(splits(256, 12, 1, 64, 1), 3);
  EXPECT_EQ(splits(64, 3, 4, 64, 1), 17);
  EXPECT_EQ(splits(256, 12, 1, 64, 256), 1);
}

TEST(DecodeEmulated, RefusesWhatItCannotServe) {
  DecodeShape shape;
  shape.batch = shape.kv_heads = 1;
  shape.head_dim = 64;
  EXPECT_EQ(decode_unsupported_reason(shape, 256), nullptr);
  const auto reason = [](DecodeShape changed, int query_len) {
    const char* text = decode_unsupported_reason(changed, query_len);
    return std::string(text == nullptr ? "" : text);
  };
  EXPECT_NE(reason(shape, 257).find("query_len=257 must lie in 1..window=256"), std::string::npos);
  shape.window = 40;
  EXPECT_NE(reason(shape, 1).find("window=40 must be a multiple of 16"), std::string::npos);
  shape.window = 256;
  shape.degree = 3;
  EXPECT_NE(reason(shape, 1).find("no decode kernel for degree=3; compiled: bf16"), std::string::npos);
  shape.degree = 2;
  shape.head_dim = 136;
  EXPECT_NE(reason(shape, 1).find("head_dim=136"), std::string::npos);
  EXPECT_THROW(decode_record_bytes(shape), std::invalid_argument);
}

}  // namespace
}  // namespace power::kernels::testing
