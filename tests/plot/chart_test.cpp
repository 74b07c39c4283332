#include "plot/chart.h"

#include "tests/plot/well_formed.h"

namespace power::plot {
namespace {

using test::count;
using test::expect_well_formed;

Chart rising() {
  Chart chart;
  chart.x = {.low = 1024, .high = 65536, .logarithmic = true};
  chart.y = {.low = 1e5, .high = 1e7, .logarithmic = true};
  chart.x_label = "context <tokens>";
  chart.y_label = "tokens/s";
  chart.legend = {"a & b", "c"};
  chart.lines = {{.points = {{1024, 2e5}, {8192, 1e6}, {65536, 8e6}}, .color = 0, .marker = 3.5},
                 {.points = {{1024, 3e5}, {65536, 0}}, .color = 1, .dashed = true, .marker = 2}};
  return chart;
}

TEST(Chart, DrawsLinesPointsLabelsAndLegend) {
  const std::string svg = chart_svg(rising());
  expect_well_formed(svg);
  EXPECT_EQ(count(svg, "<circle"), 4);  // a logarithmic axis has no 0
  EXPECT_EQ(count(svg, "r=\"3.5\""), 3);
  EXPECT_EQ(count(svg, "stroke-dasharray"), 1);
  EXPECT_EQ(count(svg, ">context &lt;tokens&gt;<"), 1);
  EXPECT_EQ(count(svg, ">tokens/s<"), 1);
  EXPECT_EQ(count(svg, ">a &amp; b<"), 1);
  EXPECT_EQ(count(svg, ">1M<"), 1);
}

TEST(Chart, TicksCanBeGiven) {
  Chart chart = rising();
  chart.x_ticks = {{1024, "1k"}, {65536, "64k"}};
  const std::string svg = chart_svg(chart);
  expect_well_formed(svg);
  EXPECT_EQ(count(svg, ">1k<"), 1);
  EXPECT_EQ(count(svg, ">64k<"), 1);
  EXPECT_EQ(count(svg, ">10k<"), 0);
}

}  // namespace
}  // namespace power::plot
