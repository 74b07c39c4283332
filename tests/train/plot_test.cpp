#include "train/plot.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "core/file.h"
#include "tests/plot/well_formed.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_folder.h"

namespace power::train {
namespace {

using test::count;
using test::expect_well_formed;

NamedHistory falling(const std::string& name, int64_t steps, int64_t tokens_per_step) {
  NamedHistory run{name, {}};
  for (int64_t step = 1; step <= steps; ++step) {
    const double loss = 3 + 7 * std::exp(-20.0 * static_cast<double>(step) / static_cast<double>(steps));
    run.history.training.push_back({step, step * tokens_per_step, loss + (step % 2 == 0 ? 0.1 : -0.1)});
    if (step % (steps / 4) == 0) run.history.validation.push_back({step, step * tokens_per_step, loss + 0.05});
  }
  return run;
}

TEST(Plot, SmoothingIsCentredAndKeepsALine) {
  std::vector<MetricsPoint> points;
  for (int64_t i = 0; i < 1000; ++i)
    points.push_back({i, 0, 5 - 0.001 * static_cast<double>(i) + (i % 2 == 0 ? 0.2 : -0.2)});
  const std::vector<double> smooth = smoothed_loss(points);
  ASSERT_EQ(smooth.size(), 1000u);
  for (size_t i = 10; i < 990; ++i) EXPECT_NEAR(smooth[i], 5 - 0.001 * static_cast<double>(i), 0.2 / 20);
  EXPECT_EQ(smooth.front(), points.front().loss);
  EXPECT_TRUE(smoothed_loss({}).empty());
  EXPECT_EQ(smoothed_loss({{1, 0, 2.0}}), std::vector<double>{2.0});
}

TEST(Plot, ShowsEveryRunWithItsNameAndPoints) {
  const std::string svg = plot_svg({falling("softmax <a&b>", 400, 100), falling("power", 400, 100)}, {});
  expect_well_formed(svg);
  EXPECT_EQ(count(svg, "<circle"), 8);
  EXPECT_EQ(count(svg, "softmax &lt;a&amp;b&gt;"), 1);
  EXPECT_EQ(count(svg, "power   train 3.0"), 1);
  EXPECT_EQ(count(svg, ">steps<"), 1);
  EXPECT_EQ(count(svg, ">400<"), 1);  // the last tick
}

TEST(Plot, RunsOfDifferentStepSizesAreComparedByTokens) {
  const std::vector<NamedHistory> runs = {falling("a", 400, 100), falling("b", 100, 400)};
  EXPECT_EQ(count(plot_svg(runs, {}), ">tokens<"), 1);
  PlotOptions options;
  options.x = "steps";
  EXPECT_EQ(count(plot_svg(runs, options), ">steps<"), 1);
  NamedHistory unknown = falling("c", 100, 0);
  EXPECT_EQ(count(plot_svg({unknown}, {}), ">steps<"), 1);
  options.x = "tokens";
  test::expect_error(ErrorKind::kData, "do not record their tokens", [&] { plot_svg({unknown}, options); });
}

TEST(Plot, ALongRunMakesNoLargerFile) {
  const size_t small = plot_svg({falling("a", 5'000, 1)}, {}).size();
  const size_t large = plot_svg({falling("a", 500'000, 1)}, {}).size();
  EXPECT_LT(large, 2 * small);
  EXPECT_LT(large, 150'000u);
}

TEST(Plot, DrawsWhateverThereIs) {
  NamedHistory one{"one", {}};
  one.history.training = {{1, 10, 2.0}};
  NamedHistory only_validation{"v", {}};
  only_validation.history.validation = {{0, 0, 11.0}, {10, 100, 3.0}};
  NamedHistory negative{"n", {}};
  negative.history.training = {{1, 1, -1.0}, {2, 2, 0.0}, {3, 3, 1.0}};
  for (const bool log_y : {false, true}) {
    PlotOptions options;
    options.log_y = log_y;
    for (const NamedHistory& run : {one, only_validation, negative, falling("f", 300, 7), NamedHistory{"empty", {}}}) {
      SCOPED_TRACE(run.name);
      expect_well_formed(plot_svg({falling("other", 100, 9), run}, options));
      if (run.name != "empty") expect_well_formed(plot_svg({run}, options));
    }
  }
}

TEST(Plot, ReadsRunFoldersAndSaysWhatIsMissing) {
  const test::TempFolder folder;
  std::filesystem::create_directory(folder / "run");
  test::expect_error(ErrorKind::kData, "run/metrics.jsonl: cannot be opened: no such file; name run folders",
                     [&] { plot_runs({folder / "run"}, folder / "loss.svg"); });
  std::ofstream(folder / "run/metrics.jsonl") << "";
  test::expect_error(ErrorKind::kData, "run/metrics.jsonl: holds no loss",
                     [&] { plot_runs({folder / "run"}, folder / "loss.svg"); });
  EXPECT_FALSE(std::filesystem::exists(folder / "loss.svg"));
  std::ofstream(folder / "run/metrics.jsonl") << "{\"step\":1,\"loss\":2}\n{\"step\":2,\"loss\":1}\n";
  plot_runs({folder / "run/"}, folder / "loss.svg");
  const std::string svg = read_file(folder / "loss.svg");
  expect_well_formed(svg);
  EXPECT_EQ(count(svg, ">run   train 1.0000<"), 1);
}

}  // namespace
}  // namespace power::train
