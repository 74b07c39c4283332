#pragma once

#include <cstddef>
#include <deque>
#include <vector>

namespace power::train {

// Notices a loss that jumps out of its recent range: data gone bad, or a learning rate too high. It only warns.
class SpikeGuard {
 public:
  // A loss is a spike where it lies above the median of the last `window` losses by more than `threshold` of their
  // standard deviations, estimated as 1.4826 times the median absolute deviation, which spikes themselves do not move.
  explicit SpikeGuard(size_t window = 128, double threshold = 8);

  // Takes the next step's loss and says whether it is a spike; nothing is one until the window is full. Losses that are
  // not finite are spikes and leave the window as it is.
  bool observe(double loss);

  // The losses in the window, oldest first: saved with a checkpoint, so that a resumed run warns as the other would.
  std::vector<double> window() const { return {losses_.begin(), losses_.end()}; }
  void restore(const std::vector<double>& losses);

 private:
  size_t size_;
  double threshold_;
  std::deque<double> losses_;
};

}  // namespace power::train
