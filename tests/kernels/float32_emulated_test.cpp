#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/kernels/attention_emulated.h"
#include "tests/kernels/emulator/emulator.h"
#include "tests/kernels/host_device.h"
#include "tests/kernels/state_ops_case.h"

// The float32 kernels, run thread by thread on the host, against the double reference.
namespace power::kernels::testing {
namespace {

AttentionCase float32(int len, int head_dim, int degree, Gates gates) {
  AttentionCase c;
  c.dtype = DataType::kFloat32;
  c.query_len = c.key_len = len;
  c.head_dim = head_dim;
  c.degree = degree;
  c.gates = gates;
  c.normalize = degree % 2 ? Normalize::kNone : Normalize::kSum;
  return c;
}

AttentionCase chunked(int len, int head_dim, int degree, Gates gates) {
  AttentionCase c = float32(len, head_dim, degree, gates);
  c.chunk = 64;
  return c;
}

TEST(Float32Emulated, LengthsAndGates) {
  for (int len : {1, 7, 63, 64, 65, 129}) check(float32(len, 32, 2, Gates::kMild));
  check(float32(129, 32, 2, Gates::kNone));
  for (Gates gates : {Gates::kStrong, Gates::kClosed, Gates::kSegments}) check(float32(200, 32, 2, gates));
}

// Long enough that blocks without weight are searched for and left out.
TEST(Float32Emulated, SkippedBlocks) { check(float32(1250, 8, 2, Gates::kSegments)); }

TEST(Float32Emulated, GroupsOfQueryHeads) {
  for (int group : {2, 3}) {
    AttentionCase c = float32(100, 24, 2, group == 3 ? Gates::kSegments : Gates::kMild);
    c.group = group;
    c.batch = group == 2 ? 2 : 1;
    c.kv_heads = group == 2 ? 2 : 1;
    check(c);
    c.query_len = 37;
    check(c);
  }
}

TEST(Float32Emulated, HeadDims) {
  for (int head_dim : {8, 40, 64, 96, 128}) check(float32(90, head_dim, 2, Gates::kMild));
}

TEST(Float32Emulated, DegreesAndNormalisations) {
  for (int degree : {1, 3, 4, 6}) {
    for (Normalize normalize : {Normalize::kLayer, Normalize::kNone, Normalize::kSum}) {
      AttentionCase c = float32(70, 32, degree, Gates::kSegments);
      if (degree % 2 && normalize == Normalize::kSum) continue;
      c.normalize = normalize;
      c.scale = degree == 4 ? -0.2 : 0.3;
      check(c);
    }
  }
}

TEST(Float32Emulated, InputSizes) {
  for (double magnitude : {1e-3, 30.0}) {
    for (int degree : {2, 6}) {
      AttentionCase c = float32(80, 32, degree, Gates::kMild);
      c.magnitude = magnitude;
      check(c);
    }
  }
}

TEST(Float32Emulated, SlicesOfOneTensor) {
  AttentionCase c = float32(70, 32, 2, Gates::kMild);
  c.fused_qkv = true;
  c.kv_heads = 2;
  c.group = 2;
  check(c);
}

TEST(Float32Emulated, GradientOfTheNormaliser) {
  for (int degree : {2, 4}) {
    for (Normalize normalize : {Normalize::kNone, Normalize::kSum}) {
      AttentionCase c = float32(90, 32, degree, Gates::kSegments);
      c.normalize = normalize;
      c.dl = true;
      check(c);
    }
  }
}

TEST(Float32ChunkedEmulated, LengthsAndGates) {
  for (int len : {64, 65, 200}) check(chunked(len, 16, 2, Gates::kMild));
  for (Gates gates : {Gates::kNone, Gates::kStrong, Gates::kClosed, Gates::kSegments}) {
    AttentionCase c = chunked(330, 16, 2, gates);
    c.chunk = 128;
    check(c);
  }
}

// Chunks that begin inside a block of 64 keys.
TEST(Float32ChunkedEmulated, AnyChunkSize) {
  for (int chunk : {1, 30, 100}) {
    for (int degree : {1, 2}) {
      AttentionCase c = chunked(chunk == 1 ? 9 : 210, 8, degree, chunk == 30 ? Gates::kSegments : Gates::kMild);
      c.chunk = chunk;
      c.group = degree;
      c.initial = c.final = true;
      check(c);
    }
  }
  AttentionCase c = chunked(200, 16, 2, Gates::kStrong);
  c.chunk = 100;
  c.query_len = 77;
  check(c);
}

TEST(Float32ChunkedEmulated, HeadDims) {
  for (int head_dim : {8, 32, 40, 64}) check(chunked(130, head_dim, 2, Gates::kMild));
  for (int head_dim : {24, 96, 128}) check(chunked(130, head_dim, 1, Gates::kMild));
}

TEST(Float32ChunkedEmulated, States) {
  for (Gates gates : {Gates::kNone, Gates::kMild, Gates::kSegments}) {
    for (int chunk : {0, 64}) {
      AttentionCase c = chunked(150, 16, 2, gates);
      c.chunk = chunk;
      c.initial = c.final = true;
      c.saved = gates == Gates::kMild;
      check(c);
    }
  }
  AttentionCase c = chunked(150, 16, 2, Gates::kMild);
  c.initial = true;
  check(c);
  c.initial = false;
  c.final = true;
  check(c);
}

TEST(Float32ChunkedEmulated, DegreesAndNormalisations) {
  for (int degree : {1, 2, 3, 4}) {
    for (Normalize normalize : {Normalize::kLayer, Normalize::kNone, Normalize::kSum}) {
      if (degree % 2 && normalize == Normalize::kSum) continue;
      AttentionCase c = chunked(100, 8, degree, Gates::kMild);
      c.normalize = normalize;
      c.scale = 0.3;
      c.initial = c.final = true;
      check(c);
    }
  }
}

TEST(Float32ChunkedEmulated, HighDegrees) {
  check(chunked(80, 32, 3, Gates::kSegments));
  AttentionCase c = chunked(80, 16, 4, Gates::kMild);
  c.group = 2;
  check(c);
  if (std::getenv("POWER_TEST_LONG")) check(chunked(70, 32, 4, Gates::kMild));  // 52,360 features
}

TEST(Float32ChunkedEmulated, GroupsAndFewerQueries) {
  for (int group : {2, 3}) {
    AttentionCase c = chunked(200, 16, 2, group == 3 ? Gates::kSegments : Gates::kMild);
    c.group = group;
    c.kv_heads = 2;
    c.saved = true;
    check(c);
    for (int queries : {1, 70}) {
      if (queries == 1) c.gates = Gates::kMild;
      c.query_len = queries;
      c.initial = c.final = queries == 70;
      check(c);
    }
  }
}

// What the launches take, against what the interface says.
TEST(Float32Emulated, SharedMemory) {
  constexpr size_t kLimit = 96 * 1024;  // sm_86 and sm_89 allow a block 99 KB
  for (int head_dim : {32, 64, 128}) {
    AttentionCase c = chunked(70, head_dim, 1, Gates::kNone);
    AttentionShape shape;
    shape.dtype = DataType::kFloat32;
    shape.head_dim = head_dim;
    emulator::take_most_shared_memory();
    check(c);
    const size_t taken = emulator::take_most_shared_memory();
    EXPECT_EQ(taken, shared_memory_bytes(shape, true));
    EXPECT_LE(taken, kLimit);
  }
}

TEST(Float32Emulated, WhatIsNotSupported) {
  AttentionShape shape;
  shape.dtype = DataType::kFloat32;
  shape.batch = shape.kv_heads = 1;
  shape.query_len = shape.key_len = 200;
  shape.head_dim = 64;
  shape.scale = 1;
  shape.degree = 3;
  EXPECT_EQ(unsupported_reason(shape), nullptr);
  shape.chunk = 64;
  EXPECT_STREQ(
      unsupported_reason(shape),
      "no chunked kernel for degree=3 head_dim=64; compiled: float32, any degree, head dims filled up to 32 64 "
      "128; with states (degree, largest head dim) (1,128) (2,128) (3,32) (4,32)");
  shape.head_dim = 32;
  EXPECT_EQ(unsupported_reason(shape), nullptr);
  shape.head_dim = 36;
  EXPECT_NE(unsupported_reason(shape), nullptr);
}

TEST(Float32StateOpsEmulated, Chunks) {
  HostDevice device;
  for (Gates gates : {Gates::kNone, Gates::kMild, Gates::kSegments}) {
    for (int degree : {1, 2, 3, 4}) {
      StateOpsCase c;
      c.batch = c.kv_heads = c.group = degree == 2 ? 2 : 1;
      c.tokens = 70;
      c.chunk = degree == 3 ? 70 : 29;
      c.degree = degree;
      c.gates = gates;
      const CaseResult result = run_state_ops_case(device, c);
      EXPECT_TRUE(result.ok()) << c.name() << result.text();
      if (std::getenv("POWER_TEST_PRINT")) printf("%s:%s\n", c.name().c_str(), result.text().c_str());
    }
  }
}

TEST(Float32StateOpsEmulated, DiscountedSums) {
  HostDevice device;
  for (bool full : {false, true}) {
    for (int elements : {1, 700, 2100}) {
      const CaseResult result = run_discounted_sum_case(device, 2, 5, 3, elements, full);
      EXPECT_TRUE(result.ok()) << elements << result.text();
    }
  }
}

}  // namespace
}  // namespace power::kernels::testing
