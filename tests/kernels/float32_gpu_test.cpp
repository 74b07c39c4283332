#include <gtest/gtest.h>

#include "kernels/power_attention_float32/supported.h"
#include "tests/kernels/attention_gpu.h"
#include "tests/kernels/state_ops_case.h"

// The float32 kernels on the GPU against the double reference.
namespace power::kernels::testing {
namespace {

using Float32Gpu = AttentionGpu;
using Float32ChunkedGpu = AttentionGpu;
using Float32StateOpsGpu = AttentionGpu;

constexpr Gates kAllGates[] = {Gates::kNone, Gates::kMild, Gates::kStrong, Gates::kClosed, Gates::kSegments};

AttentionCase float32(int len, int head_dim, int degree, Gates gates) {
  AttentionCase c = self_attention(len, gates);
  c.dtype = DataType::kFloat32;
  c.head_dim = head_dim;
  c.degree = degree;
  c.normalize = degree % 2 ? Normalize::kNone : Normalize::kSum;
  return c;
}

AttentionCase chunked(int len, int head_dim, int degree, int chunk, Gates gates) {
  AttentionCase c = float32(len, head_dim, degree, gates);
  c.chunk = chunk;
  return c;
}

TEST_F(Float32Gpu, LengthsAndGates) {
  for (int len : {1, 7, 63, 64, 65, 127, 129, 239, 1000, 1025}) {
    for (Gates gates : kAllGates) {
      AttentionCase c = float32(len, 64, 2, gates);
      c.kv_heads = 2;
      check(c);
    }
  }
}

TEST_F(Float32Gpu, HeadDimsAndDegrees) {
#define POWER_CHECK(head_dim_)                                         \
  for (Gates gates : {Gates::kNone, Gates::kMild, Gates::kSegments}) { \
    for (int degree : {1, 2, 3, 4, 6}) {                               \
      AttentionCase c = float32(222, head_dim_, degree, gates);        \
      c.batch = 2;                                                     \
      check(c);                                                        \
    }                                                                  \
  }
  POWER_ATTENTION_FLOAT32_HEAD_DIMS(POWER_CHECK)
#undef POWER_CHECK
  for (int head_dim : {8, 16, 24, 40, 80, 120}) check(float32(200, head_dim, 2, Gates::kMild));
}

TEST_F(Float32Gpu, GroupsAndFewerQueries) {
  for (int group : {2, 3, 8}) {
    for (int queries : {1, 7, 100, 257}) {
      AttentionCase c = float32(257, 64, 2, group % 2 ? Gates::kSegments : Gates::kMild);
      c.query_len = queries;
      c.group = group;
      c.kv_heads = 2;
      check(c);
    }
  }
}

TEST_F(Float32Gpu, NormalisationsAndScales) {
  for (Normalize normalize : {Normalize::kSum, Normalize::kLayer, Normalize::kNone}) {
    for (int degree : {1, 2, 3, 4}) {
      if (degree % 2 && normalize == Normalize::kSum) continue;  // signed sums vanish: ill-conditioned by definition
      for (double scale : {0.0, 0.5, -0.1}) {
        AttentionCase c = float32(150, 64, degree, Gates::kSegments);
        c.normalize = normalize;
        c.scale = scale;
        check(c);
      }
    }
  }
}

TEST_F(Float32Gpu, InputSizesSlicesAndGradientsOfTheNormaliser) {
  for (int degree : {2, 4, 6}) {
    for (double magnitude : {1e-3, 30.0}) {
      AttentionCase c = float32(300, 64, degree, Gates::kMild);
      c.magnitude = magnitude;
      check(c);
    }
    AttentionCase c = float32(190, 64, degree, Gates::kMild);
    c.dl = true;
    check(c);
    c.normalize = Normalize::kNone;
    check(c);
  }
  for (int head_dim : {32, 64, 128}) {
    AttentionCase c = float32(190, head_dim, 2, Gates::kMild);
    c.fused_qkv = true;
    c.kv_heads = 2;
    c.group = 3;
    check(c);
  }
}

TEST_F(Float32Gpu, LongSequences) {
  for (Gates gates : {Gates::kNone, Gates::kMild}) check(float32(4096, 64, 2, gates));
}

TEST_F(Float32ChunkedGpu, LengthsChunksAndGates) {
  for (int len : {65, 127, 239, 1000}) {
    for (int chunk : {37, 64, 100, 512}) {
      for (Gates gates : kAllGates) check(chunked(len, 32, 2, chunk, gates));
    }
  }
}

TEST_F(Float32ChunkedGpu, HeadDimsAndDegrees) {
#define POWER_CHECK(degree_, largest)                                    \
  for (int head_dim : {8, 16, 24, 32, 64, 96, 128}) {                    \
    if (head_dim > largest) continue;                                    \
    for (Gates gates : {Gates::kNone, Gates::kMild, Gates::kSegments}) { \
      check(chunked(200, head_dim, degree_, 64, gates));                 \
    }                                                                    \
  }
  POWER_ATTENTION_FLOAT32_STATE_DEGREES(POWER_CHECK)
#undef POWER_CHECK
}

TEST_F(Float32ChunkedGpu, InitialAndFinalStates) {
  for (int degree : {1, 2, 3, 4}) {
    for (Gates gates : kAllGates) {
      for (int chunk : {0, 64}) {
        for (int which : {1, 2, 3}) {
          AttentionCase c = chunked(150, degree > 2 ? 8 : 40, degree, chunk, gates);
          c.initial = which & 1;
          c.final = which & 2;
          c.saved = which == 3;
          check(c);
        }
      }
    }
  }
}

TEST_F(Float32ChunkedGpu, GroupsAndFewerQueries) {
  for (int degree : {2, 3, 4}) {
    for (int group : {2, 3}) {
      for (int queries : {1, 70, 257}) {
        AttentionCase c = chunked(257, degree > 2 ? 16 : 64, degree, 64, group % 2 ? Gates::kSegments : Gates::kMild);
        if (queries == 1) c.gates = Gates::kMild;
        c.query_len = queries;
        c.group = group;
        c.initial = c.final = queries == 70;
        check(c);
      }
    }
  }
}

TEST_F(Float32ChunkedGpu, NormalisationsAndInputSizes) {
  for (int degree : {1, 2, 3, 4}) {
    for (Normalize normalize : {Normalize::kSum, Normalize::kLayer, Normalize::kNone}) {
      if (degree % 2 && normalize == Normalize::kSum) continue;
      AttentionCase c = chunked(200, 16, degree, 64, Gates::kMild);
      c.normalize = normalize;
      c.scale = 0.3;
      c.initial = c.final = true;
      check(c);
    }
  }
  for (double magnitude : {1e-3, 30.0}) {
    for (int degree : {2, 4}) {
      AttentionCase c = chunked(300, 16, degree, 128, Gates::kMild);
      c.magnitude = magnitude;
      check(c);
    }
  }
}

TEST_F(Float32ChunkedGpu, LongSequences) {
  for (int chunk : {256, 1024}) {
    for (Gates gates : {Gates::kNone, Gates::kMild}) check(chunked(4096, 64, 2, chunk, gates));
  }
  check(chunked(2048, 16, 4, 256, Gates::kMild));
}

TEST_F(Float32StateOpsGpu, Chunks) {
  for (Gates gates : {Gates::kNone, Gates::kMild, Gates::kSegments}) {
    for (int degree : {1, 2, 3, 4}) {
      for (int chunk : {1, 29, 64, 100, 200}) {
        if (reduced() && (gates != Gates::kMild || (chunk != 29 && chunk != 100))) continue;
        StateOpsCase c;
        c.batch = c.kv_heads = c.group = 2;
        c.tokens = 100;
        c.chunk = chunk;
        c.head_dim = degree == 2 ? 40 : 16;
        c.degree = degree;
        c.gates = gates;
        const CaseResult result = run_state_ops_case(device_, c);
        EXPECT_TRUE(result.ok()) << c.name() << result.text();
      }
    }
  }
}

TEST_F(Float32StateOpsGpu, DiscountedSums) {
  for (bool full : {false, true}) {
    for (int elements : {1, 700, 2100, 100000}) {
      const CaseResult result = run_discounted_sum_case(device_, 2, 5, 3, elements, full);
      EXPECT_TRUE(result.ok()) << elements << result.text();
    }
  }
}

}  // namespace
}  // namespace power::kernels::testing
