#include "train/metrics.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <random>

#include "core/file.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_folder.h"

namespace power::train {
namespace {

void add(MetricsLog& log, int64_t step, double loss) {
  log.append({{"step", step}, {"loss", loss}, {"mfu", nullptr}, {"tokens", 100 * step}});
}

std::vector<int64_t> steps(const std::vector<MetricsPoint>& points) {
  std::vector<int64_t> result;
  for (const MetricsPoint& point : points) result.push_back(point.step);
  return result;
}

TEST(Metrics, LinesAreJsonInTheGivenOrderWithTheTime) {
  const test::TempFolder folder;
  {
    MetricsLog log(folder / "metrics.jsonl");
    add(log, 1, 2.5);
  }
  const std::string text = read_file(folder / "metrics.jsonl");
  EXPECT_TRUE(text.starts_with(R"({"step":1,"loss":2.5,"mfu":null,"tokens":100,"time":)")) << text;
  EXPECT_TRUE(text.ends_with("}\n"));
  EXPECT_GT(nlohmann::json::parse(text)["time"].get<double>(), 1.7e9);
}

TEST(Metrics, LossComesBackBitwise) {
  const test::TempFolder folder;
  std::mt19937_64 random(1);
  std::vector<double> values = {0.1, 1.0 / 3, 5e-324, 1.7976931348623157e308, 11.0, 3.4127000000000001};
  while (values.size() < 2000) {
    const uint64_t bits = random();
    double value = 0;
    std::memcpy(&value, &bits, sizeof(value));
    if (std::isfinite(value)) values.push_back(value);
  }
  {
    MetricsLog log(folder / "metrics.jsonl");
    for (size_t i = 0; i < values.size(); ++i) add(log, static_cast<int64_t>(i), values[i]);
  }
  const MetricsHistory history = read_metrics(folder / "metrics.jsonl");
  ASSERT_EQ(history.training.size(), values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    ASSERT_EQ(std::memcmp(&history.training[i].loss, &values[i], sizeof(double)), 0) << values[i];
  }
}

TEST(Metrics, AResumedRunHasOneHistory) {
  const test::TempFolder folder;
  const auto path = folder / "metrics.jsonl";
  {
    MetricsLog log(path);
    for (int64_t step = 1; step <= 8; ++step) {
      add(log, step, 10.0 / static_cast<double>(step));
      if (step % 2 == 0) log.append({{"step", step}, {"val_loss", 9.0}});
    }
  }
  std::ofstream(path, std::ios::app) << R"({"step":9,"loss":1.1)";  // the process was killed here
  {
    MetricsLog log(path, 5);
    add(log, 6, 1.5);
  }
  const MetricsHistory history = read_metrics(path);
  EXPECT_EQ(steps(history.training), (std::vector<int64_t>{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(steps(history.validation), (std::vector<int64_t>{2, 4}));
  EXPECT_EQ(history.training.back().loss, 1.5);
  EXPECT_EQ(history.training.back().tokens, 600);
  { MetricsLog log(path, 0); }
  EXPECT_EQ(read_file(path), "");
}

TEST(Metrics, ATornLineOfTheResumedStepIsDroppedToo) {
  const test::TempFolder folder;
  const auto path = folder / "metrics.jsonl";
  std::ofstream(path) << "{\"step\":1,\"loss\":3}\n{\"step\":2,\"loss\":2}";  // complete JSON, but no line end
  {
    MetricsLog log(path, 2);
    add(log, 3, 1);
  }
  EXPECT_EQ(steps(read_metrics(path).training), (std::vector<int64_t>{1, 3}));
}

TEST(Metrics, ReaderLeavesOutNonFiniteLossesAndNamesABadLine) {
  const test::TempFolder folder;
  const auto path = folder / "metrics.jsonl";
  {
    MetricsLog log(path);
    add(log, 1, NAN);
    add(log, 2, INFINITY);
    add(log, 3, 1.0);
  }
  EXPECT_EQ(steps(read_metrics(path).training), std::vector<int64_t>{3});
  std::ofstream(path, std::ios::app) << "{\"step\":4,";
  EXPECT_EQ(steps(read_metrics(path).training), std::vector<int64_t>{3});
  std::ofstream(path, std::ios::app) << "\n{\"step\":5,\"loss\":1}\n";
  test::expect_error(ErrorKind::kData, "metrics.jsonl:4: not a JSON object with a step", [&] { read_metrics(path); });
  test::expect_error(ErrorKind::kData, "cannot be opened", [&] { read_metrics(folder / "absent"); });
}

// A full disk must neither end the run nor leave half a line, and nothing is lost once there is room.
TEST(Metrics, KeepsLinesWhileTheDiskIsFull) {
  const test::TempFolder folder;
  const auto path = folder / "metrics.jsonl";
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGXFSZ, SIG_IGN);
    const struct rlimit small = {1000, RLIM_INFINITY};
    ::setrlimit(RLIMIT_FSIZE, &small);
    MetricsLog log(path);
    for (int64_t step = 1; step <= 50; ++step) add(log, step, 1.0);
    const std::string held = read_file(path);
    const bool whole_lines = !held.empty() && held.size() <= 1000 && held.back() == '\n';
    const struct rlimit large = {1 << 20, RLIM_INFINITY};
    ::setrlimit(RLIMIT_FSIZE, &large);
    add(log, 51, 1.0);
    ::_exit(whole_lines ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0) << "a line was cut, or the child failed";
  const MetricsHistory history = read_metrics(path);
  ASSERT_EQ(history.training.size(), 51u);
  for (int64_t step = 1; step <= 51; ++step) EXPECT_EQ(history.training[static_cast<size_t>(step - 1)].step, step);
}

}  // namespace
}  // namespace power::train
