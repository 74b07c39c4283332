#include "bench/error_metric.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/str.h"

namespace power::bench {
namespace {

constexpr int64_t kTile = 64;
constexpr double kNothing = 1e-6;   // of ||dy||
constexpr double kSmallTile = 0.1;  // of a tile's usual share: below it, a tile's own size is rounding noise

// Squares summed over everything but batch, tile of tokens and head: (B, tiles, H).
at::Tensor tile_squares(const at::Tensor& x) {
  const at::Tensor squares = x.reshape({x.size(0), x.size(1), x.size(2), -1}).square().sum(3);
  const int64_t tiles = std::max<int64_t>(1, (x.size(1) + kTile / 2) / kTile);  // a short rest joins the tile before it
  std::vector<at::Tensor> sums;
  for (int64_t tile = 0; tile < tiles; ++tile) {
    const int64_t end = tile + 1 < tiles ? (tile + 1) * kTile : x.size(1);
    sums.push_back(squares.slice(1, tile * kTile, end).sum(1));
  }
  return at::stack(sums, 1);
}

struct Worst {
  double value = 0;
  int64_t index = 0;
};

// NaN counts as the worst of all.
Worst worst_of(const at::Tensor& values) {
  const at::Tensor flat = at::nan_to_num(values.flatten(), std::numeric_limits<double>::infinity());
  const int64_t index = flat.argmax().item<int64_t>();
  return {flat[index].item<double>(), index};
}

}  // namespace

Error measure_error(const at::Tensor& x, const at::Tensor& reference, const at::Tensor& dy) {
  const at::Tensor ref = reference.to(at::kCPU, at::kDouble), got = x.to(at::kCPU, at::kDouble);
  const double whole = ref.norm().item<double>(), dy_norm = dy.to(at::kCPU, at::kDouble).norm().item<double>();
  const at::Tensor error = tile_squares(got - ref), size = tile_squares(ref);
  const bool nothing = whole < kNothing * dy_norm;
  const double heads = static_cast<double>(ref.size(0) * ref.size(2)), tiles = static_cast<double>(error.numel());
  const auto relative = [&](const at::Tensor& e, const at::Tensor& s, double parts) {
    // Where the gradient is nothing, a row's rounding is divided by its score, which may be as small as it likes: parts
    // are then held against the whole of dy as well.
    const double floor = nothing ? dy_norm : parts == 1 ? 0.0 : kSmallTile * whole / std::sqrt(parts);
    const at::Tensor own = nothing ? at::zeros_like(s) : s.sqrt();
    return e.sqrt() / at::clamp_min(own, std::max(floor, std::numeric_limits<double>::min()));
  };
  Error result;
  result.whole = relative(error.sum(), size.sum(), 1).item<double>();
  const Worst head = worst_of(relative(error.sum(1), size.sum(1), heads));
  const Worst tile = worst_of(relative(error, size, tiles));
  const int64_t H = ref.size(2), tile_count = error.size(1);
  result.part = std::max(head.value, tile.value);
  result.where = head.value >= tile.value ? str("b", head.index / H, " h", head.index % H)
                                          : str("b", tile.index / (tile_count * H), " h", tile.index % H, " t",
                                                tile.index / H % tile_count * kTile);
  return result;
}

}  // namespace power::bench
