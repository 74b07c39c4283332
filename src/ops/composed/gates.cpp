#include "ops/composed/gates.h"

#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>

namespace power::ops {
namespace {

constexpr int64_t kScanBlock = 128;

// torch.cumsum is flagged non-deterministic on CUDA; products with triangular matrices of ones are not.
at::Tensor blocked_cumulative_sum(const at::Tensor& x, bool reverse) {
  const int64_t rows = x.size(0), n = x.size(1), blocks = (n + kScanBlock - 1) / kScanBlock;
  const at::Tensor ones = at::ones({kScanBlock, kScanBlock}, x.options());
  const at::Tensor padded = at::constant_pad_nd(x, {0, blocks * kScanBlock - n}).view({rows * blocks, kScanBlock});
  at::Tensor sums = at::mm(padded, reverse ? ones.tril() : ones.triu()).view({rows, blocks, kScanBlock});
  if (blocks > 1) {
    const at::Tensor totals = sums.select(2, reverse ? 0 : kScanBlock - 1).contiguous();
    sums.add_((cumulative_sum(totals, reverse) - totals).unsqueeze(-1));
  }
  return sums.view({rows, blocks * kScanBlock}).narrow(1, 0, n);
}

// The factor e^{c_i - c_j} is the product of the gates between j and i: one multiplication per entry, and a gate of
// zero closes everything before it.
template <class Real>
void tile_rows(const double* log_g, const bool* is_reset, Real* out, int64_t n) {
  std::vector<double> row(n);
  for (int64_t i = 0; i < n; ++i, out += n) {
    const double gate = is_reset[i] ? 0.0 : std::exp(log_g[i]);
    for (int64_t j = 0; j < i; ++j) row[j] *= gate;
    row[i] = 1.0;
    // Keep denormals, which are slow, out of this product and of those that use the result.
    for (int64_t j = 0; j < i; ++j) row[j] = row[j] < 1e-37 ? 0.0 : row[j];
    for (int64_t j = 0; j <= i; ++j) out[j] = static_cast<Real>(row[j]);
    std::fill(out + i + 1, out + n, Real(0));
  }
}

}  // namespace

at::Tensor cumulative_sum(const at::Tensor& x, bool reverse) {
  if (x.is_cuda()) return blocked_cumulative_sum(x, reverse);
  return reverse ? x.flip(-1).cumsum(-1).flip(-1) : x.cumsum(-1);
}

at::Tensor exclusive_cumulative_sum(const at::Tensor& x) {
  return cumulative_sum(at::constant_pad_nd(x.narrow(-1, 0, x.size(-1) - 1), {1, 0}), false);
}

Gates::Gates(const at::Tensor& log_g) {
  is_reset_ = at::isinf(log_g);
  log_g_ = log_g.masked_fill(is_reset_, 0);
  sum_ = cumulative_sum(log_g_, false);
  segment_ = cumulative_sum(is_reset_.to(at::kDouble), false);
}

Gates Gates::slice(int64_t first, int64_t count) const {
  if (!present()) return {};
  Gates part;
  part.log_g_ = log_g_.narrow(0, first, count);
  part.sum_ = sum_.narrow(0, first, count);
  part.is_reset_ = is_reset_.narrow(0, first, count);
  part.segment_ = segment_.narrow(0, first, count);
  return part;
}

at::Tensor Gates::from_start(int64_t first, int64_t last, at::ScalarType real) const {
  if (!present()) return {};
  const int64_t count = last - first;
  return sum_.narrow(1, first, count).exp().mul_(segment_.narrow(1, first, count) == 0).to(real);
}

at::Tensor Gates::after(int64_t t, int64_t first, int64_t last, at::ScalarType real) const {
  if (!present()) return {};
  const int64_t count = last - first;
  const at::Tensor same = segment_.narrow(1, first, count) == segment_.narrow(1, t, 1);
  return (sum_.narrow(1, first, count) - sum_.narrow(1, t, 1)).exp_().mul_(same).to(real);
}

at::Tensor Gates::until(int64_t t, at::ScalarType real) const {
  if (!present()) return {};
  const at::Tensor same = segment_.narrow(1, 0, t + 1) == segment_.narrow(1, t, 1);
  // Across a segment's start the difference says nothing and may be large: take it out before the exponential.
  return (sum_.narrow(1, t, 1) - sum_.narrow(1, 0, t + 1)).mul_(same).exp_().mul_(same).to(real);
}

at::Tensor Gates::to_end(at::ScalarType real) const { return present() ? until(sum_.size(1) - 1, real) : at::Tensor(); }

at::Tensor Gates::whole(at::ScalarType real) const {
  if (!present()) return {};
  const int64_t n = sum_.size(1);
  return from_start(n - 1, n, real).squeeze(1);
}

at::Tensor Gates::tile(int64_t first, int64_t last, const at::TensorOptions& options) const {
  const int64_t n = last - first;
  if (!present()) return at::ones({1, n, n}, options).tril_();
  const int64_t blocks = sum_.size(0);
  if (options.device().is_cpu()) {
    const at::Tensor log_g = log_g_.narrow(1, first, n).contiguous();
    const at::Tensor is_reset = is_reset_.narrow(1, first, n).contiguous();
    at::Tensor out = at::empty({blocks, n, n}, options);
    AT_DISPATCH_FLOATING_TYPES(out.scalar_type(), "decay_tile", [&] {
      scalar_t* to = out.data_ptr<scalar_t>();
      at::parallel_for(0, blocks, std::max<int64_t>(1, 65536 / (n * n)), [&](int64_t begin, int64_t end) {
        for (int64_t g = begin; g < end; ++g) {
          tile_rows(log_g.data_ptr<double>() + g * n, is_reset.data_ptr<bool>() + g * n, to + g * n * n, n);
        }
      });
    });
    return out;
  }
  const at::Tensor sum = sum_.narrow(1, first, n), segment = segment_.narrow(1, first, n);
  const at::Tensor apart = segment.unsqueeze(2) != segment.unsqueeze(1);
  return (sum.unsqueeze(2) - sum.unsqueeze(1))
      .to(options.dtype().toScalarType())
      .masked_fill_(apart, -INFINITY)
      .clamp_max_(0)
      .exp_()
      .tril_();
}

}  // namespace power::ops
