#include <gtest/gtest.h>

#include "tests/kernels/attention_emulated.h"
#include "tests/kernels/emulator/emulator.h"

// The CUDA kernels, run thread by thread on the host (emulator/emulator.h), against the double reference.
namespace power::kernels::testing {
namespace {

AttentionCase self_attention(int len, Gates gates) {
  AttentionCase c;
  c.query_len = c.key_len = len;
  c.gates = gates;
  return c;
}

TEST(AttentionEmulated, LengthsAndGates) {
  for (int len : {1, 7, 63, 64, 65, 129, 200}) check(self_attention(len, Gates::kMild));
  check(self_attention(129, Gates::kNone));
  for (Gates gates : {Gates::kStrong, Gates::kClosed, Gates::kSegments}) check(self_attention(330, gates));
}

// Long enough that blocks without weight are searched for and left out.
TEST(AttentionEmulated, SkippedBlocks) {
  for (Gates gates : {Gates::kStrong, Gates::kSegments}) {
    AttentionCase c = self_attention(1250, gates);
    c.head_dim = 32;
    check(c);
  }
}

TEST(AttentionEmulated, GroupsOfQueryHeads) {
  for (int group : {2, 3, 5}) {
    AttentionCase c = self_attention(150, group == 3 ? Gates::kSegments : Gates::kMild);
    c.group = group;
    c.batch = group == 2 ? 2 : 1;
    c.kv_heads = group == 2 ? 2 : 1;
    check(c);
  }
}

TEST(AttentionEmulated, FewerQueriesThanKeys) {
  for (int queries : {1, 7, 70}) {
    AttentionCase c = self_attention(203, Gates::kMild);
    c.query_len = queries;
    c.group = 2;
    check(c);
  }
}

TEST(AttentionEmulated, HeadDims) {
  for (int head_dim : {16, 32, 40, 96, 128}) {
    AttentionCase c = self_attention(140, Gates::kMild);
    c.head_dim = head_dim;
    check(c);
  }
}

TEST(AttentionEmulated, DegreesAndNormalisations) {
  for (int degree : {1, 3, 4, 6}) {
    AttentionCase c = self_attention(100, Gates::kMild);
    c.degree = degree;
    c.normalize = degree % 2 ? Normalize::kLayer : Normalize::kSum;
    check(c);
  }
  for (Normalize normalize : {Normalize::kLayer, Normalize::kNone}) {
    for (int degree : {2, 4}) {
      AttentionCase c = self_attention(100, Gates::kSegments);
      c.degree = degree;
      c.normalize = normalize;
      c.scale = degree == 2 ? 0.3 : -0.2;
      check(c);
    }
  }
}

TEST(AttentionEmulated, InputSizes) {
  for (double magnitude : {1e-3, 30.0}) {
    for (int degree : {2, 6}) {
      AttentionCase c = self_attention(80, Gates::kMild);
      c.degree = degree;
      c.magnitude = magnitude;
      check(c);
    }
  }
}

TEST(AttentionEmulated, SlicesOfOneTensor) {
  AttentionCase c = self_attention(90, Gates::kMild);
  c.fused_qkv = true;
  c.kv_heads = 2;
  c.group = 2;
  check(c);
}

AttentionCase chunked(int len, int chunk, Gates gates) {
  AttentionCase c = self_attention(len, gates);
  c.chunk = chunk;
  return c;
}

TEST(ChunkedEmulated, LengthsAndGates) {
  for (int len : {64, 65, 129, 200}) check(chunked(len, 64, Gates::kMild));
  for (Gates gates : {Gates::kNone, Gates::kStrong, Gates::kClosed, Gates::kSegments}) check(chunked(330, 128, gates));
}

TEST(ChunkedEmulated, States) {
  for (Gates gates : {Gates::kNone, Gates::kMild, Gates::kSegments}) {
    for (int chunk : {0, 64}) {
      AttentionCase c = chunked(150, chunk, gates);
      c.initial = c.final = true;
      c.saved = gates == Gates::kMild;
      check(c);
    }
  }
  AttentionCase c = chunked(200, 64, Gates::kMild);
  c.initial = true;
  check(c);
  c.initial = false;
  c.final = true;
  check(c);
}

TEST(ChunkedEmulated, HeadDims) {
  for (int head_dim : {16, 32, 40, 96, 128}) {
    AttentionCase c = chunked(140, 64, Gates::kMild);
    c.head_dim = head_dim;
    c.initial = c.final = head_dim == 40;
    check(c);
  }
}

TEST(ChunkedEmulated, DegreeOne) {
  for (int head_dim : {24, 64, 128}) {
    AttentionCase c = chunked(200, 64, Gates::kMild);
    c.head_dim = head_dim;
    c.degree = 1;
    c.normalize = Normalize::kLayer;
    c.initial = c.final = head_dim == 24;
    check(c);
  }
}

TEST(ChunkedEmulated, GroupsAndFewerQueries) {
  for (int group : {2, 3}) {
    AttentionCase c = chunked(200, 64, group == 3 ? Gates::kSegments : Gates::kMild);
    c.group = group;
    c.kv_heads = 2;
    c.saved = true;
    check(c);
    for (int queries : {1, 70, 130}) {
      // One query that sees a single key, and that through the state, has nothing but rounding in dq.
      if (queries == 1) c.gates = Gates::kMild;
      c.query_len = queries;
      c.initial = c.final = queries == 70;
      check(c);
    }
  }
}

TEST(ChunkedEmulated, Normalisations) {
  for (Normalize normalize : {Normalize::kLayer, Normalize::kNone}) {
    AttentionCase c = chunked(200, 64, Gates::kSegments);
    c.normalize = normalize;
    c.scale = 0.3;
    c.initial = c.final = true;
    check(c);
  }
}

// What the launches of a forward and a backward pass take, against what the interface says.
TEST(SharedMemory, TheInterfaceSaysWhatTheLaunchesTake) {
  constexpr size_t kAmpereBlock = 99 * 1024;  // sm_86 and sm_89; sm_80 allows 163 KB, sm_90 227 KB
  enum { kQuadratic, kChunked, kStates };
  for (int head_dim : {64, 128}) {
    for (int form : {kQuadratic, kChunked, kStates}) {
      if (form == kStates && head_dim > 64) continue;  // as the chunked form, and slow here
      AttentionCase c = chunked(70, form == kChunked ? 64 : 0, Gates::kMild);
      c.head_dim = head_dim;
      c.initial = c.final = form == kStates;
      AttentionShape shape;
      shape.batch = shape.kv_heads = 1;
      shape.query_len = shape.key_len = 70;
      shape.head_dim = head_dim;
      shape.chunk = c.chunk;
      emulator::take_most_shared_memory();
      check(c);
      const size_t said = shared_memory_bytes(shape, form == kStates);
      EXPECT_EQ(emulator::take_most_shared_memory(), said) << c.name();
      if (form == kQuadratic || head_dim <= 64) {
        EXPECT_LE(said, kAmpereBlock) << c.name();
      }
    }
  }
}

}  // namespace
}  // namespace power::kernels::testing
