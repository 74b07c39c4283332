#include "kernels/power_attention/decode.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>
#include <stdexcept>
#include <string>

#include "kernels/power_attention/decode_layout.h"
#include "kernels/power_attention/supported.h"

namespace power::kernels {
namespace {

constexpr DecodeKernels (*kCompiled[])() = {
#define POWER_ROW(head_dim, degree) decode_kernels<head_dim, degree>,
#define POWER_ROWS(head_dim) POWER_ATTENTION_DECODE_DEGREES(POWER_ROW, head_dim)
    POWER_ATTENTION_HEAD_DIMS(POWER_ROWS)
#undef POWER_ROWS
#undef POWER_ROW
};

void require(bool condition, const std::string& message) {
  if (!condition) throw std::invalid_argument("power_attention decode: " + message);
}

// Smallest compiled head dim that holds the shape's.
DecodeKernels find_kernels(const DecodeShape& shape) {
  DecodeKernels found{};
  for (const auto compiled : kCompiled) {
    const DecodeKernels kernels = compiled();
    if (kernels.degree != shape.degree || kernels.head_dim < shape.head_dim) continue;
    if (found.step == nullptr || kernels.head_dim < found.head_dim) found = kernels;
  }
  return found;
}

DecodeLayout layout_of(const DecodeShape& shape) {
  return DecodeLayout::of(find_kernels(shape).head_dim, shape.degree, shape.window);
}

int records_of(const DecodeShape& shape) { return shape.batch * shape.kv_heads; }

void check_shape(const DecodeShape& shape, int query_len) {
  if (const char* reason = decode_unsupported_reason(shape, query_len)) require(false, reason);
}

StridedView strided(const TensorView& view, const char* name) {
  const bool aligned = reinterpret_cast<uintptr_t>(view.data) % 16 == 0 && view.batch % 8 == 0 && view.token % 8 == 0 &&
                       view.head % 8 == 0;
  require(view.data != nullptr, std::string(name) + " is null");
  require(aligned, std::string(name) + " has data or strides that are no multiple of 16 bytes; pass a contiguous copy");
  return {static_cast<const uint16_t*>(view.data), view.batch, view.token, view.head};
}

DecodeArgs common_args(const DecodeShape& shape, void* cache, int splits) {
  require(cache != nullptr && reinterpret_cast<uintptr_t>(cache) % 256 == 0,
          "the cache is null or not on a 256-byte boundary");
  DecodeArgs args{};
  args.cache = static_cast<uint8_t*>(cache);
  args.layout = layout_of(shape);
  args.kv_heads = FastDivisor(shape.kv_heads);
  args.group = FastDivisor(shape.group);
  args.splits = FastDivisor(splits);
  args.records = records_of(shape);
  args.head_dim = shape.head_dim;
  args.window = shape.window;
  return args;
}

DecodeArgs state_args(const DecodeStateParams& params) {
  require(params.state != nullptr && params.key_sum != nullptr, "state or key_sum is null");
  DecodeArgs args = common_args(params.shape, params.cache, layout_of(params.shape).steps);
  args.state = params.state;
  args.key_sum = params.key_sum;
  return args;
}

}  // namespace

const char* decode_unsupported_reason(const DecodeShape& shape, int query_len) {
  static thread_local std::string reason;
  const auto say = [&](const auto&... parts) {
    std::ostringstream out;
    (out << ... << parts);
    out << "; compiled: bf16, (head dim, degree)";
    for (const auto compiled : kCompiled) out << " (" << compiled().head_dim << "," << compiled().degree << ")";
    reason = out.str();
    return reason.c_str();
  };
  if (shape.batch < 0 || shape.kv_heads < 1 || shape.group < 1) return say("no heads or a negative batch size");
  if (shape.head_dim < 8 || shape.head_dim > kMaxHeadDim || shape.head_dim % 8 != 0) {
    return say("no decode kernel for head_dim=", shape.head_dim, ", it must be a multiple of 8 up to ", kMaxHeadDim);
  }
  if (find_kernels(shape).step == nullptr) return say("no decode kernel for degree=", shape.degree);
  if (shape.window < 16 || shape.window > kMaxDecodeWindow || shape.window % 16 != 0) {
    return say("window=", shape.window, " must be a multiple of 16 up to ", kMaxDecodeWindow);
  }
  if (query_len < 1 || query_len > shape.window) {
    return say("query_len=", query_len, " must lie in 1..window=", shape.window);
  }
  const int64_t most = std::numeric_limits<int>::max();
  if (int64_t{shape.batch} * shape.kv_heads * std::max(layout_of(shape).steps, kMaxDecodeSplits) > most ||
      int64_t{query_len} * shape.group > most / 256) {
    return say("batch=", shape.batch, " with ", shape.kv_heads, " heads in groups of ", shape.group, " is too large");
  }
  return nullptr;
}

size_t decode_record_bytes(const DecodeShape& shape) {
  check_shape(shape, 1);
  return layout_of(shape).bytes;
}

int decode_splits(const DecodeShape& shape, int query_len, int multiprocessors) {
  check_shape(shape, query_len);
  const int records = std::max(1, records_of(shape)), steps = layout_of(shape).steps;
  // Many tokens: blocks are long, and the workspace grows with their number.
  const bool few = query_len * shape.group <= 4 * kDecodeRowGroup;
  // Measured (docs/performance.md). A block also costs its partial sums: at least two steps of 16 feature rows a warp,
  // or one where all blocks run at once. A few tokens: at most twelve, for a folding block makes its launch wait.
  const int most = ceil_div(steps, kDecodeWarps);
  if (few && int64_t{records} * most <= 4 * multiprocessors) return std::min(most, kMaxDecodeSplits);
  const int least = few ? ceil_div(steps, 12 * kDecodeWarps) : 1;
  const int wanted = ceil_div((few ? 34 : 8) * multiprocessors, records);
  return std::clamp(std::min(std::max(wanted, least), ceil_div(most, 2)), 1, kMaxDecodeSplits);
}

size_t decode_workspace_bytes(const DecodeShape& shape, int query_len, int splits) {
  check_shape(shape, query_len);
  return sizeof(float) * records_of(shape) * splits * query_len * shape.group * (find_kernels(shape).head_dim + 4);
}

void power_attention_decode(const DecodeParams& params) {
  check_shape(params.shape, params.query_len);
  require(params.splits >= 1 && params.splits <= kMaxDecodeSplits,
          "splits=" + std::to_string(params.splits) + " must lie in 1.." + std::to_string(kMaxDecodeSplits));
  require(params.scale != 0 && std::isfinite(params.scale), "scale must be finite and not 0");
  if (params.shape.batch == 0) return;
  require(params.workspace != nullptr, "workspace is null");
  DecodeArgs args = common_args(params.shape, params.cache, params.splits);
  args.q = strided(params.q, "q");
  args.k = strided(params.k, "k");
  args.v = strided(params.v, "v");
  args.y = strided(params.y, "y");
  args.log_g = params.log_g.data;
  args.log_g_batch = params.log_g.batch;
  args.log_g_token = params.log_g.token;
  args.log_g_head = params.log_g.head;
  args.partials = static_cast<float*>(params.workspace);
  args.query_len = params.query_len;
  args.rows = params.query_len * params.shape.group;
  args.scale_power = static_cast<float>(std::pow(params.scale, params.shape.degree));
  args.normalize = params.normalize;
  find_kernels(params.shape).step(args, params.stream);
}

void decode_import_state(const DecodeStateParams& params) {
  check_shape(params.shape, 1);
  if (params.shape.batch == 0) return;
  find_kernels(params.shape).import_state(state_args(params), params.stream);
}

void decode_export_state(const DecodeStateParams& params) {
  check_shape(params.shape, 1);
  if (params.shape.batch == 0) return;
  const DecodeKernels kernels = find_kernels(params.shape);
  const int splits = ceil_div(layout_of(params.shape).steps, 2 * kDecodeWarps);
  kernels.fold(common_args(params.shape, params.cache, splits), params.stream);
  kernels.export_state(state_args(params), params.stream);
}

}  // namespace power::kernels
