#include <algorithm>
#include <cmath>

#include "bench/operator_report.h"
#include "core/error.h"
#include "core/format.h"
#include "plot/chart.h"

namespace power::bench {
namespace {

std::string context_label(int64_t context) {
  return context % 1024 == 0 ? str(context / 1024, "k") : std::to_string(context);
}

}  // namespace

std::string context_chart(const OperatorBenchResult& result) {
  plot::Chart chart;
  chart.x = {.low = INFINITY, .high = 0, .logarithmic = true};
  chart.y = chart.x;
  const OperatorBenchRow* last = nullptr;
  for (const Attention attention : {Attention::kPower, Attention::kCudnn, Attention::kFlash}) {
    plot::Line line{.color = chart.legend.size(), .marker = 3.5};
    for (const OperatorBenchRow& row : result.rows) {
      if (row.attention != attention || !row.failure.empty()) continue;
      last = &row;
      const double context = static_cast<double>(row.shape.len), rate = row.both.per_second(row.tokens());
      line.points.push_back({context, rate});
      chart.x = {.low = std::min(chart.x.low, context), .high = std::max(chart.x.high, context), .logarithmic = true};
      chart.y = {.low = std::min(chart.y.low, rate), .high = std::max(chart.y.high, rate), .logarithmic = true};
    }
    if (line.points.empty()) continue;
    chart.legend.push_back(str(attention_name(attention),
                               attention == Attention::kPower ? str(", degree ", last->shape.degree) : "", "   ",
                               format_count(line.points.back().y, "tok/s"), " at ", context_label(last->shape.len)));
    chart.lines.push_back(std::move(line));
  }
  require(last != nullptr, ErrorKind::kRuntime,
          "bench operator: nothing could be timed, so there is no chart to draw: ",
          result.rows.empty() ? "no shape" : result.rows.front().failure);
  if (chart.x.low == chart.x.high) chart.x.high *= 2;
  chart.y.low /= 1.3;
  chart.y.high *= 1.3;
  for (const OperatorBenchRow& row : result.rows) {
    const double context = static_cast<double>(row.shape.len);
    if (chart.x_ticks.empty() || chart.x_ticks.back().value != context) {
      chart.x_ticks.push_back({context, context_label(row.shape.len)});
    }
  }
  const OperatorShape& s = last->shape;
  chart.x_label = str("context; ", s.batch * s.len, " tokens, ", s.heads * s.group, " query and ", s.heads,
                      " key/value heads of ", s.head_dim, "; ", result.device);
  chart.y_label = "tokens/s, forward + backward";
  return plot::chart_svg(std::move(chart));
}

}  // namespace power::bench
