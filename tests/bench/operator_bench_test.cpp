#include "bench/operator_bench.h"

#include <gtest/gtest.h>
#include <torch/cuda.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "bench/operator_report.h"
#include "core/file.h"
#include "tests/plot/well_formed.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_folder.h"

namespace power::bench {
namespace {

using nlohmann::json;
using test::expect_error;

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
  EXPECT_EQ(to_string(brief), "1,65536,8,1,64,2");
}

TEST(OperatorBench, BadShapesAreNamed) {
  for (const char* bad :
       {"", "1", "1,2", "1,2,", "1,2,x", "1,2,0", "1,-2,3", "1,2,3,4,5,6,7", "1, 2,3", "9999999999,1,1"}) {
    SCOPED_TRACE(bad);
    expect_error(ErrorKind::kUsage, std::string("--shape ") + bad + ":", [&] { parse_shape(bad); });
    expect_error(ErrorKind::kUsage, "B,T,H[,R[,D[,P]]]", [&] { parse_shape(bad); });
  }
}

TEST(OperatorBench, ContextsCutTheSameTokens) {
  const auto shapes = shapes_of_contexts(parse_shape("2,4096,3,2"), parse_contexts("1024,4096,8192"));
  ASSERT_EQ(shapes.size(), 3u);
  EXPECT_EQ(to_string(shapes[0]), "8,1024,3,2,64,2");
  EXPECT_EQ(to_string(shapes[2]), "1,8192,3,2,64,2");
  expect_error(ErrorKind::kUsage, "--contexts: 3000 does not divide the 8192 tokens of --shape 2,4096,3,2,64,2",
               [&] { shapes_of_contexts(parse_shape("2,4096,3,2"), {3000}); });
  expect_error(ErrorKind::kUsage, "--contexts 1k: '1k' is no positive number", [] { parse_contexts("1k"); });
  expect_error(ErrorKind::kUsage, "the lengths must rise", [] { parse_contexts("2048,1024"); });
  expect_error(ErrorKind::kUsage, "the lengths must rise", [] { parse_contexts("1024,1024"); });
}

TEST(OperatorBench, OptionsThatContradictEachOther) {
  std::ostringstream out;
  const auto run = [&](const OperatorBenchOptions& options) { run_bench_operator(options, out); };
  OperatorBenchOptions options;
  options.device = "cpu";
  options.svg = "x.svg";
  expect_error(ErrorKind::kUsage, "add --contexts", [&] { run(options); });
  options.contexts = {64};
  options.shapes = {parse_shape("1,64,1"), parse_shape("2,64,1")};
  expect_error(ErrorKind::kUsage, "--contexts goes with one --shape", [&] { run(options); });
  EXPECT_EQ(out.str(), "");
}

TEST(OperatorBench, NeedsAGpuUnlessToldOtherwise) {
  if (torch::cuda::is_available()) GTEST_SKIP() << "there is a GPU";
  std::ostringstream out;
  expect_error(ErrorKind::kRuntime, "time the CPU with --device cpu", [&] { run_bench_operator({}, out); });
}

OperatorBenchOptions small_on_cpu() {
  OperatorBenchOptions options;
  options.shapes = {parse_shape("1,256,2,2,16,2")};
  options.repeats = 3;
  options.device = "cpu";
  options.program = "test";
  return options;
}

TEST(OperatorBench, JsonHoldsTimesRatesAndKernels) {
  OperatorBenchOptions options = small_on_cpu();
  options.breakdown = options.json = true;
  options.chunk_size = 64;
  std::ostringstream out;
  run_bench_operator(options, out);
  const json report = json::parse(out.str());
  EXPECT_EQ(report["program"], "test");
  EXPECT_GT(report["matmul_flops"], 0);
  EXPECT_GT(report["copy_bytes_per_s"], 0);
  ASSERT_EQ(report["rows"].size(), 2u);
  EXPECT_EQ(report["rows"][0]["what"], "power chunk 64");
  EXPECT_EQ(report["rows"][1]["what"], "softmax flash");
  for (const json& row : report["rows"]) {
    SCOPED_TRACE(row["what"]);
    EXPECT_EQ(row.count("failure"), 0u) << row;
    EXPECT_EQ(row["group"], 2);
    for (const char* name : {"forward", "backward", "forward_backward"}) {
      const json& pass = row[name];
      const double seconds = pass["median_ms"].get<double>() * 1e-3;
      EXPECT_GT(seconds, 0);
      EXPECT_GE(pass["p90_ms"], pass["median_ms"]);
      EXPECT_NEAR(pass["flop_per_s"].get<double>() * seconds / pass["flop"].get<double>(), 1, 1e-9);
      EXPECT_NEAR(
          pass["of_matmul"].get<double>() * report["matmul_flops"].get<double>() / pass["flop_per_s"].get<double>(), 1,
          1e-9);
      EXPECT_NEAR(pass["bytes_per_s"].get<double>() * seconds / pass["bytes"].get<double>(), 1, 1e-9);
      EXPECT_NEAR(pass["tokens_per_s"].get<double>() * seconds, 256, 1e-6);
    }
    EXPECT_EQ(row["forward_backward"].count("kernels"), 0u);
  }
  // What a chunked forward and backward pass of these sizes must at least do.
  const json& power = report["rows"][0];
  const double tokens = 256 * 2 * 2, D = 16, F = 17 * 16 / 2;
  EXPECT_DOUBLE_EQ(power["forward"]["flop"], tokens * (2 * 64 * D + 2 * F * D * 1.5));
  for (const char* name : {"forward", "backward"}) {
    std::string names;
    for (const json& kernel : power[name]["kernels"]) names += kernel["name"].get<std::string>() + "\n";
    EXPECT_NE(names.find("aten::bmm\n"), std::string::npos) << names;
    EXPECT_NE(names.find(std::string("power_attention::power_attention_") + name + "\n"), std::string::npos) << names;
  }
}

TEST(OperatorBench, TableAndBreakdownForPeople) {
  OperatorBenchOptions options = small_on_cpu();
  options.breakdown = true;
  std::ostringstream out;
  run_bench_operator(options, out);
  const std::string text = out.str();
  for (const char* part :
       {"TFLOP/s float32 product of 1024^3", "B,T,H,R,D,P", "of mm", "1,256,2,2,16,2       power ",
        "softmax flash     forward", "\n                                       backward",
        "quadratic, backward: ", ", kernels under the profiler ", " others\n", "   share  calls  kernel\n", "aten::"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
  }
}

TEST(OperatorBench, ChartOfContexts) {
  const test::TempFolder folder;
  OperatorBenchOptions options = small_on_cpu();
  options.contexts = {32, 64, 128};
  options.svg = folder / "contexts.svg";
  options.json = true;
  std::ostringstream out;
  run_bench_operator(options, out);
  EXPECT_EQ(json::parse(out.str())["rows"].size(), 6u);
  const std::string svg = read_file(options.svg);
  test::expect_well_formed(svg);
  EXPECT_EQ(test::count(svg, "<circle"), 6);
  EXPECT_EQ(test::count(svg, ">power, degree 2   "), 1);
  EXPECT_EQ(test::count(svg, ">softmax flash   "), 1);
  EXPECT_EQ(test::count(svg, ">32<"), 1);
  EXPECT_EQ(test::count(svg, "context; 256 tokens, 4 query and 2 key/value heads of 16; CPU"), 1);
}

TEST(OperatorBench, AShapeThatCannotRunDoesNotEndTheTable) {
  OperatorBenchOptions options = small_on_cpu();
  options.shapes = {parse_shape("1,64,1,1,16,5"), parse_shape("1,64,1,1,16,2")};
  options.softmax = false;
  std::ostringstream out;
  const OperatorBenchResult result = run_bench_operator(options, out);
  ASSERT_EQ(result.rows.size(), 2u);
  EXPECT_NE(result.rows[0].failure.find("degree 5 is not supported"), std::string::npos) << result.rows[0].failure;
  EXPECT_EQ(result.rows[1].failure, "");
  EXPECT_GT(result.rows[1].both.median, 0);
}

TEST(OperatorBench, WhatCannotRunSaysWhy) {
  OperatorBenchResult result;
  result.matmul_flops = 1e12;
  OperatorBenchRow failed;
  failed.shape = parse_shape("1,64,2");
  failed.what = "softmax cuDNN";
  failed.attention = Attention::kCudnn;
  failed.failure = "no kernel for it";
  OperatorBenchRow timed = failed;
  timed.attention = Attention::kPower;
  timed.what = "power quadratic";
  timed.failure.clear();
  for (Pass* pass : {&timed.forward, &timed.backward, &timed.both}) *pass = {2, 3, {1e9, 1e6}, {}};
  std::ostringstream out;
  print_shape({timed, failed}, result, out);
  EXPECT_EQ(out.str(),
            "1,64,2,1,64,2        power quadratic   forward      2.000     3.000       0.5   50.0%      0.5    0.032\n"
            "                                       backward     2.000     3.000       0.5   50.0%      0.5    0.032\n"
            "                                       both         2.000     3.000       0.5   50.0%      0.5    0.032\n"
            "1,64,2,1,64,2        softmax cuDNN     no kernel for it\n");
  result.rows = {failed};
  expect_error(ErrorKind::kRuntime, "nothing could be timed, so there is no chart to draw: no kernel for it",
               [&] { context_chart(result); });
}

}  // namespace
}  // namespace power::bench
