#include "train/step_line.h"

#include "core/format.h"
#include "core/str.h"

namespace power::train {

std::string step_line(const StepStats& stats) {
  std::string line =
      str("step ", stats.step, "/", stats.max_steps, " | loss ", format_number("%.4f", stats.loss), " | gnorm ",
          format_number("%.2f", stats.grad_norm), " | lr ", format_number("%.1e", stats.lr), " | ",
          format_number("%.1f", stats.step_seconds * 1e3), " ms | ", format_count(stats.tokens_per_s, "tok/s"));
  if (stats.mfu) line += " | mfu " + format_number("%.1f%%", *stats.mfu * 100);
  line += str(" | data ", format_number("%.1f%%", stats.data_fraction * 100), " | mem ",
              format_bytes(static_cast<double>(stats.memory_bytes)), " | eta ", format_duration(stats.eta_seconds));
  return line;
}

}  // namespace power::train
