#include "ops/symmetric_power.h"

#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <tuple>
#include <vector>

#include "ops/check_argument.h"

namespace power::ops {
namespace {

using Tuple = std::vector<int64_t>;

// All tuples i1 <= ... <= ip below head_dim in lexicographic order; one empty tuple for degree 0.
std::vector<Tuple> index_tuples(int64_t head_dim, int64_t degree) {
  std::vector<Tuple> tuples = {{}};
  for (int64_t level = 0; level < degree; ++level) {
    std::vector<Tuple> next;
    for (const Tuple& parent : tuples) {
      for (int64_t i = parent.empty() ? 0 : parent.back(); i < head_dim; ++i) {
        next.push_back(parent);
        next.back().push_back(i);
      }
    }
    tuples = std::move(next);
  }
  return tuples;
}

// p! / prod(count of each index)!
int64_t orderings(const Tuple& tuple) {
  int64_t result = 1, run = 0;
  for (size_t i = 0; i < tuple.size(); ++i) {
    run = (i > 0 && tuple[i] == tuple[i - 1]) ? run + 1 : 1;
    result = result * static_cast<int64_t>(i + 1) / run;
  }
  return result;
}

struct Tables {
  at::Tensor parent;          // (F) feature of degree p-1 made of the first p-1 indices
  at::Tensor last;            // (F) last index
  at::Tensor multiplicity;    // (F,1) float64
  at::Tensor gradient_index;  // (D*F_{p-1}) feature of b u {a}, at a*F_{p-1} + b
  at::Tensor gradient_count;  // (D*F_{p-1},1) float64: b_a + 1
};

Tables make_tables(int64_t head_dim, int64_t degree) {
  const std::vector<Tuple> tuples = index_tuples(head_dim, degree), parents = index_tuples(head_dim, degree - 1);
  const auto features = static_cast<int64_t>(tuples.size()), rows = static_cast<int64_t>(parents.size());
  std::map<Tuple, int64_t> position;
  for (int64_t f = 0; f < features; ++f) position[tuples[f]] = f;
  Tables t{at::empty({features}, at::kLong), at::empty({features}, at::kLong), at::empty({features, 1}, at::kDouble),
           at::empty({head_dim * rows}, at::kLong), at::empty({head_dim * rows, 1}, at::kDouble)};
  int64_t parent = -1;
  for (int64_t f = 0; f < features; ++f) {
    // Children of one parent follow each other, starting at the parent's own last index.
    if (f == 0 || !std::equal(tuples[f].begin(), tuples[f].end() - 1, tuples[f - 1].begin())) ++parent;
    t.parent.data_ptr<int64_t>()[f] = parent;
    t.last.data_ptr<int64_t>()[f] = tuples[f].back();
    t.multiplicity.data_ptr<double>()[f] = static_cast<double>(orderings(tuples[f]));
  }
  for (int64_t a = 0; a < head_dim; ++a) {
    for (int64_t b = 0; b < rows; ++b) {
      Tuple joined = parents[b];
      const auto count = std::count(joined.begin(), joined.end(), a);
      joined.insert(std::upper_bound(joined.begin(), joined.end(), a), a);
      t.gradient_index.data_ptr<int64_t>()[a * rows + b] = position.at(joined);
      t.gradient_count.data_ptr<double>()[a * rows + b] = static_cast<double>(count + 1);
    }
  }
  return t;
}

// Built once per (head_dim, degree) and device, kept for the life of the process. Never destroyed: the CUDA context may
// be gone before static destructors run.
const Tables& tables(int64_t head_dim, int64_t degree, at::Device device) {
  static std::mutex mutex;
  static auto& cache = *new std::map<std::tuple<int64_t, int64_t, int, int>, Tables>();
  std::lock_guard<std::mutex> lock(mutex);
  const auto key = [&](at::Device d) {
    return std::make_tuple(head_dim, degree, static_cast<int>(d.type()), static_cast<int>(d.index()));
  };
  auto found = cache.find(key(device));
  if (found != cache.end()) return found->second;
  auto host = cache.find(key(at::kCPU));
  if (host == cache.end()) host = cache.emplace(key(at::kCPU), make_tables(head_dim, degree)).first;
  if (device.is_cpu()) return host->second;
  const Tables& h = host->second;
  Tables copy{h.parent.to(device), h.last.to(device), h.multiplicity.to(device), h.gradient_index.to(device),
              h.gradient_count.to(device)};
  return cache.emplace(key(device), std::move(copy)).first->second;
}

// Each parent feature (degree p-1) times the indices from its own last one upwards.
template <class Real>
void phi_rows(const Real* x, const Real* parent, Real* out, int64_t rows, int64_t head_dim, const int64_t* parent_last,
              int64_t parents) {
  for (int64_t row = 0; row < rows; ++row, x += head_dim, parent += parents) {
    for (int64_t m = 0; m < parents; ++m) {
      const Real factor = parent[m];
      const Real* xi = x + parent_last[m];
      const int64_t count = head_dim - parent_last[m];
      for (int64_t i = 0; i < count; ++i) out[i] = factor * xi[i];
      out += count;
    }
  }
}

at::Tensor phi_cpu(const at::Tensor& x, int64_t degree) {
  const at::Tensor xc = x.contiguous(), parent = degree == 2 ? xc : phi_cpu(xc, degree - 1);
  const int64_t head_dim = x.size(-1), parents = parent.size(-1), features = state_dim(head_dim, degree);
  const int64_t rows = x.numel() / head_dim;
  const at::Tensor parent_last = tables(head_dim, degree - 1, at::kCPU).last;
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = features;
  at::Tensor out = at::empty(shape, x.options());
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "phi", [&] {
    const scalar_t* xs = xc.data_ptr<scalar_t>();
    const scalar_t* from = parent.data_ptr<scalar_t>();
    scalar_t* to = out.data_ptr<scalar_t>();
    at::parallel_for(0, rows, std::max<int64_t>(1, 16384 / features), [&](int64_t begin, int64_t end) {
      phi_rows(xs + begin * head_dim, from + begin * parents, to + begin * features, end - begin, head_dim,
               parent_last.data_ptr<int64_t>(), parents);
    });
  });
  return out;
}

}  // namespace

int64_t state_dim(int64_t head_dim, int64_t degree) {
  double size = 1;
  int64_t features = 1;
  for (int64_t i = 1; i <= degree; ++i) {
    size = size * static_cast<double>(head_dim + i - 1) / static_cast<double>(i);
    check_argument(size < 4e18, "power_attention: the state of degree ", degree, " at head dim ", head_dim, " has ",
                   size, " features; use the quadratic form (chunk_size 0) without states");
    features = features * (head_dim + i - 1) / i;
  }
  return features;
}

at::Tensor phi(const at::Tensor& x, int64_t degree) {
  const int64_t head_dim = x.size(-1);
  if (degree == 1) return x;
  if (x.is_cpu()) return phi_cpu(x, degree);
  if (degree > 2) {
    const Tables& t = tables(head_dim, degree, x.device());
    return phi(x, degree - 1).index_select(-1, t.parent).mul_(x.index_select(-1, t.last));
  }
  // One product per first index, written in place: a single pass over the output.
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = state_dim(head_dim, degree);
  at::Tensor out = at::empty(shape, x.options());
  int64_t offset = 0;
  for (int64_t i = 0; i < head_dim; ++i) {
    at::Tensor slice = out.narrow(-1, offset, head_dim - i);
    at::mul_out(slice, x.narrow(-1, i, 1), x.narrow(-1, i, head_dim - i));
    offset += head_dim - i;
  }
  return out;
}

at::Tensor multiplicity(int64_t head_dim, int64_t degree, const at::TensorOptions& options) {
  return tables(head_dim, degree, options.device()).multiplicity.to(options.dtype());
}

at::Tensor state_gradient_matrix(const at::Tensor& state, int64_t head_dim, int64_t degree) {
  if (degree == 1) return state.transpose(1, 2);
  const Tables& t = tables(head_dim, degree, state.device());
  at::Tensor out = state.index_select(1, t.gradient_index);  // (G, (a,b), C)
  out.mul_(t.gradient_count.to(state.scalar_type()));
  return out.view({state.size(0), head_dim, -1}).transpose(1, 2);  // (G, (b,c), a)
}

}  // namespace power::ops
