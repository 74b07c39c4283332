#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

#include "kernels/power_attention/supported.h"
#include "tests/kernels/cuda_device.h"
#include "tests/kernels/decode_case.h"

// The decode kernels on the GPU against the double reference. POWER_TEST_REDUCED=1 keeps the grid small enough for
// compute-sanitizer; POWER_TEST_PRINT=1 prints every case.
namespace power::kernels::testing {
namespace {

class DecodeGpu : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string reason = no_device_reason();
    if (!reason.empty()) GTEST_SKIP() << reason;
  }
  static bool reduced() { return std::getenv("POWER_TEST_REDUCED") != nullptr; }

  void check(DecodeCase c, const DecodeStep& step = power_attention_decode) {
    if (reduced()) {
      c.tokens = std::min(c.tokens, 50);
      c.window = std::min(c.window, 32);
      for (int& len : c.steps) len = std::min(len, 32);
    }
    SCOPED_TRACE(c.name());
    const DecodeResult result =
        run_decode_case(device_, c, step, static_cast<int>(std::thread::hardware_concurrency()));
    EXPECT_TRUE(result.ok()) << result.text();
    if (!(result.y.error <= worst_.error)) {
      worst_ = result.y;
      worst_.worst_where = c.name();
    }
    ++cases_;
    if (std::getenv("POWER_TEST_PRINT")) std::printf("%s:%s\n", c.name().c_str(), result.text().c_str());
  }

  void TearDown() override {
    if (cases_ == 0) return;
    std::printf("  y worst of %d cases: error %.2e, tolerance %.2e, in %s\n", cases_, worst_.error, worst_.tolerance,
                worst_.worst_where.c_str());
  }

  CudaDevice device_;
  Comparison worst_;
  int cases_ = 0;
};

constexpr Gates kAllGates[] = {Gates::kNone, Gates::kMild, Gates::kStrong, Gates::kClosed, Gates::kSegments};

DecodeCase tokens(int count, Gates gates) {
  DecodeCase c;
  c.tokens = count;
  c.gates = gates;
  c.window = 256;
  return c;
}

// Every length of the window that one token at a time leads to, past several folds.
TEST_F(DecodeGpu, WholeWindowPeriods) {
  for (Gates gates : kAllGates) {
    DecodeCase c = tokens(600, gates);
    c.batch = 3;
    c.kv_heads = 2;
    c.splits = 17;
    check(c);
  }
}

TEST_F(DecodeGpu, CompiledHeadDimsAndDegrees) {
#define POWER_CHECK(head_dim_, degree_)                                \
  for (Gates gates : {Gates::kNone, Gates::kMild, Gates::kSegments}) { \
    DecodeCase c = tokens(150, gates);                                 \
    c.head_dim = head_dim_;                                            \
    c.degree = degree_;                                                \
    c.window = 48;                                                     \
    c.normalize = c.degree % 2 ? Normalize::kLayer : Normalize::kSum;  \
    c.batch = 2;                                                       \
    c.splits = 3;                                                      \
    check(c);                                                          \
  }
#define POWER_CHECK_DEGREES(head_dim) POWER_ATTENTION_DECODE_DEGREES(POWER_CHECK, head_dim)
  POWER_ATTENTION_HEAD_DIMS(POWER_CHECK_DEGREES)
}

TEST_F(DecodeGpu, HeadDimsBetween) {
  for (int head_dim : {16, 24, 40, 48, 80, 96, 120}) {
    DecodeCase c = tokens(100, Gates::kMild);
    c.head_dim = head_dim;
    c.window = 32;
    c.splits = 2;
    c.convert_at = 45;
    check(c);
  }
}

TEST_F(DecodeGpu, GroupsAndBatches) {
  for (int group : {1, 2, 3, 8, 12}) {
    for (int batch : {1, 2, 5}) {
      DecodeCase c = tokens(140, group % 2 ? Gates::kSegments : Gates::kMild);
      c.group = group;
      c.batch = batch;
      c.kv_heads = 3;
      c.window = 64;
      c.splits = 5;
      check(c);
    }
  }
}

TEST_F(DecodeGpu, SeveralTokensAStep) {
  for (const std::vector<int>& steps :
       {std::vector<int>{2}, {5}, {32}, {1, 31, 2}, {256, 1}, {63, 1, 64}, {200, 1, 1, 60, 1, 1}}) {
    for (Gates gates : {Gates::kMild, Gates::kStrong, Gates::kSegments}) {
      DecodeCase c = tokens(700, gates);
      c.steps = steps;
      c.group = 2;
      c.batch = 2;
      c.splits = 6;
      check(c);
    }
  }
}

TEST_F(DecodeGpu, Splits) {
  for (int splits : {1, 2, 11, 33, 128}) {
    DecodeCase c = tokens(80, Gates::kMild);
    c.window = 32;
    c.splits = splits;
    check(c);
  }
}

TEST_F(DecodeGpu, NormalisationsScalesAndInputSizes) {
  for (Normalize normalize : {Normalize::kSum, Normalize::kLayer, Normalize::kNone}) {
    for (int degree : {1, 2}) {
      if (degree == 1 && normalize == Normalize::kSum) continue;  // signed sums vanish: ill-conditioned by definition
      for (double magnitude : {1e-3, 1.0, 30.0}) {
        DecodeCase c = tokens(100, Gates::kSegments);
        c.window = 32;
        c.degree = degree;
        c.normalize = normalize;
        c.magnitude = magnitude;
        c.scale = degree == 1 ? -0.3 : 0.2;
        c.splits = 4;
        check(c);
      }
    }
  }
}

TEST_F(DecodeGpu, StatesOutAndIn) {
  for (int degree : {1, 2}) {
    for (int at : {5, 100, 290}) {
      DecodeCase c = tokens(400, degree == 1 ? Gates::kMild : Gates::kSegments);
      c.convert_at = at;
      c.degree = degree;
      c.normalize = degree == 1 ? Normalize::kNone : Normalize::kSum;
      c.batch = 2;
      c.kv_heads = 2;
      c.splits = 9;
      check(c);
    }
  }
}

TEST_F(DecodeGpu, LongSequence) {
  if (reduced()) GTEST_SKIP() << "too long for compute-sanitizer";
  for (Gates gates : {Gates::kNone, Gates::kMild}) {
    DecodeCase c = tokens(3000, gates);
    c.steps = {3};
    c.splits = 17;
    check(c);
  }
}

// One captured step serves every token: nothing about a token is decided on the host.
TEST_F(DecodeGpu, ReplayedGraph) {
  const auto ok = [](cudaError_t status) { ASSERT_EQ(status, cudaSuccess) << cudaGetErrorString(status); };
  cudaStream_t stream;
  ok(cudaStreamCreate(&stream));
  std::vector<const void*> captured_memory;
  cudaGraphExec_t graph = nullptr;
  int captures = 0, replays = 0;
  const auto replay = [&](const DecodeParams& params) {
    const std::vector<const void*> memory = {params.cache, params.q.data, params.log_g.data, params.y.data,
                                             params.workspace};
    if (memory != captured_memory) {  // another run, with memory of its own
      DecodeParams on_stream = params;
      on_stream.stream = stream;
      cudaGraph_t captured;
      ok(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
      power_attention_decode(on_stream);
      ok(cudaStreamEndCapture(stream, &captured));
      ok(cudaGraphInstantiate(&graph, captured, 0));
      captured_memory = memory;
      ++captures;
    }
    ok(cudaGraphLaunch(graph, stream));
    ok(cudaStreamSynchronize(stream));
    ++replays;
  };
  DecodeCase c = tokens(300, Gates::kSegments);
  c.batch = 2;
  c.kv_heads = 3;
  c.window = 64;
  c.splits = 7;
  check(c, replay);
  EXPECT_LE(captures, 2);
  EXPECT_GE(replays, 2 * std::min(c.tokens, 50));
}

}  // namespace
}  // namespace power::kernels::testing
