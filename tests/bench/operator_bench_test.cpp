#include "bench/operator_bench.h"

#include <gtest/gtest.h>
#include <torch/cuda.h>

#include <sstream>

#include "core/error.h"

namespace power::bench {
namespace {

std::string message_of(const std::string& shape) {
  try {
    parse_shape(shape);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUsage);
    return error.what();
  }
  return "accepted";
}

TEST(OperatorBench, ShapesAreReadWhole) {
  const OperatorShape full = parse_shape("2,1024,3,4,32,1");
  EXPECT_EQ(full.batch, 2);
  EXPECT_EQ(full.len, 1024);
  EXPECT_EQ(full.heads, 3);
  EXPECT_EQ(full.group, 4);
  EXPECT_EQ(full.head_dim, 32);
  EXPECT_EQ(full.degree, 1);
  const OperatorShape brief = parse_shape("1,65536,8");
  EXPECT_EQ(brief.group, 1);
  EXPECT_EQ(brief.head_dim, 64);
  EXPECT_EQ(brief.degree, 2);
}

TEST(OperatorBench, BadShapesAreNamed) {
  for (const char* bad :
       {"", "1", "1,2", "1,2,", "1,2,x", "1,2,0", "1,-2,3", "1,2,3,4,5,6,7", "1, 2,3", "9999999999,1,1"}) {
    const std::string message = message_of(bad);
    EXPECT_NE(message.find("--shape"), std::string::npos) << bad << ": " << message;
    EXPECT_NE(message.find("B,T,H[,R[,D[,P]]]"), std::string::npos) << bad << ": " << message;
  }
}

TEST(OperatorBench, NeedsAGpu) {
  if (torch::cuda::is_available()) GTEST_SKIP() << "there is a GPU";
  std::ostringstream out;
  EXPECT_THROW(run_bench_operator({}, out), Error);
}

}  // namespace
}  // namespace power::bench
