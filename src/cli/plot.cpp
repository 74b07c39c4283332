#include "train/plot.h"

#include "cli/command.h"

namespace power::cli {
namespace {

int run_plot(const Arguments& arguments) {
  train::PlotOptions options;
  options.runs = arguments.operands();
  options.out = arguments.text("out", options.out);
  options.x = arguments.text("x_axis", options.x);
  options.log_y = arguments.has("log_y");
  train::plot_command(options);
  return 0;
}

}  // namespace

Command plot_command() {
  return {
      .name = "plot",
      .summary = "draw the loss of one or more runs as an SVG",
      .operands = "RUN...",
      .min_operands = 1,
      .max_operands = 64,
      .options =
          {{.name = "out", .takes = Takes::kOne, .value = "FILE", .help = "the picture [loss.svg]", .is_path = true},
           {.name = "x_axis",
            .takes = Takes::kOne,
            .value = "AXIS",
            .help = "steps or tokens [auto: steps, unless the runs' steps differ in size]",
            .choices = {"auto", "steps", "tokens"}},
           {.name = "log_y", .help = "logarithmic losses"}},
      .examples = {"powertrain plot runs/a --out loss.svg", "powertrain plot runs/softmax runs/power --out both.svg"},
      .run = run_plot};
}

}  // namespace power::cli
