#include <cmath>
#include <sstream>
#include <stdexcept>
#include <string>

#include "kernels/power_attention/bwd.h"
#include "kernels/power_attention/fwd.h"
#include "kernels/power_attention/power_attention.h"
#include "kernels/power_attention/rows.h"
#include "kernels/power_attention/supported.h"

namespace power::kernels {
namespace {

using Launcher = void (*)(const AttentionArgs&, void*);

struct CompiledKernels {
  int head_dim, degree;
  Launcher forward, backward_dq, backward_dkdv;
};

#define POWER_ROW(head_dim, degree)                                                                           \
  {head_dim, degree, run_power_attention_fwd<head_dim, degree>, run_power_attention_bwd_dq<head_dim, degree>, \
   run_power_attention_bwd_dkdv<head_dim, degree>},
#define POWER_ROWS(head_dim) POWER_ATTENTION_DEGREES(POWER_ROW, head_dim)
constexpr CompiledKernels kCompiled[] = {POWER_ATTENTION_HEAD_DIMS(POWER_ROWS)};
#undef POWER_ROWS
#undef POWER_ROW

// Smallest compiled head dim that holds the shape's, with the degree itself or "any".
const CompiledKernels* find_kernels(int head_dim, int degree) {
  const CompiledKernels* found = nullptr;
  for (const CompiledKernels& kernels : kCompiled) {
    if (kernels.head_dim < head_dim || (kernels.degree != degree && kernels.degree != kAnyDegree)) continue;
    const bool better = found == nullptr || kernels.head_dim < found->head_dim ||
                        (kernels.head_dim == found->head_dim && kernels.degree == degree);
    if (better) found = &kernels;
  }
  return found;
}

bool any_degree(const AttentionShape& shape) {
  const CompiledKernels* kernels = find_kernels(shape.head_dim, shape.degree);
  return kernels != nullptr && kernels->degree == kAnyDegree;
}

int64_t heads_of(const AttentionShape& shape) { return int64_t{shape.batch} * shape.kv_heads; }
int64_t rows_of(const AttentionShape& shape) { return int64_t{shape.query_len} * shape.group; }
int64_t padded(int64_t n) { return round_up<int64_t>(n, kGateTile); }

// Hands out 256-byte aligned pieces of a workspace; with a null base it only measures.
class Workspace {
 public:
  explicit Workspace(void* base) : base_(static_cast<char*>(base)) {}
  template <class T>
  T* take(int64_t count) {
    T* piece = base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + used_);
    used_ += round_up<size_t>(count * sizeof(T), 256);
    return piece;
  }
  size_t used() const { return used_; }

 private:
  char* base_;
  size_t used_ = 0;
};

void take_gates(AttentionArgs& args, Workspace& workspace, const AttentionShape& shape, bool gated) {
  if (!gated) return;
  const int64_t count = heads_of(shape) * padded(shape.key_len);
  args.gates = {workspace.take<FloatPair>(count), workspace.take<int>(count), workspace.take<float>(count)};
}

void take_forward(AttentionArgs& args, Workspace& workspace, const AttentionShape& shape, bool gated) {
  take_gates(args, workspace, shape, gated);
  if (any_degree(shape)) args.key_max = workspace.take<float>(heads_of(shape));
}

void take_backward(AttentionArgs& args, Workspace& workspace, const AttentionShape& shape, bool gated) {
  take_gates(args, workspace, shape, gated);
  const int64_t rows = heads_of(shape) * padded(rows_of(shape));
  args.row_weight = workspace.take<float>(rows);
  args.delta = workspace.take<float>(rows);
  if (gated) {
    args.row_dot = workspace.take<float>(heads_of(shape) * rows_of(shape));
    args.key_dot = workspace.take<float>(heads_of(shape) * shape.key_len);
  }
  if (shape.normalize == Normalize::kLayer) {
    args.dy_rows = workspace.take<uint16_t>(heads_of(shape) * rows_of(shape) * shape.head_dim);
  }
}

void require(bool condition, const std::string& message) {
  if (!condition) throw std::invalid_argument("power_attention kernels: " + message);
}

StridedView strided(const TensorView& view, const char* name) {
  const bool aligned = reinterpret_cast<uintptr_t>(view.data) % 16 == 0 && view.batch % 8 == 0 && view.token % 8 == 0 &&
                       view.head % 8 == 0;
  require(view.data != nullptr, std::string(name) + " is null");
  require(aligned, std::string(name) + " has data or strides that are no multiple of 16 bytes; pass a contiguous copy");
  return {static_cast<const uint16_t*>(view.data), view.batch, view.token, view.head};
}

AttentionArgs common_args(const AttentionShape& shape, const GateView& log_g) {
  if (const char* reason = unsupported_reason(shape)) require(false, reason);
  AttentionArgs args{};
  args.group = FastDivisor(shape.group);
  args.kv_heads = FastDivisor(shape.kv_heads);
  args.batch = shape.batch;
  args.rows = static_cast<int>(rows_of(shape));
  args.padded_rows = static_cast<int>(padded(args.rows));
  args.keys = shape.key_len;
  args.padded_keys = static_cast<int>(padded(args.keys));
  args.first_key = shape.key_len - shape.query_len;
  args.head_dim = shape.head_dim;
  args.degree = shape.degree;
  args.scale_power = static_cast<float>(std::pow(shape.scale, shape.degree));
  args.normalize = shape.normalize;
  args.gated = log_g.data != nullptr;
  args.log_g = log_g.data;
  args.log_g_batch = log_g.batch;
  args.log_g_token = log_g.token;
  args.log_g_head = log_g.head;
  return args;
}

void set_row_stats(AttentionArgs& args, const AttentionShape& shape, float* row_stats) {
  require(row_stats != nullptr, "row_stats is null");
  args.inverse = row_stats;
  args.row_scale = any_degree(shape) ? row_stats + heads_of(shape) * rows_of(shape) : nullptr;
}

bool empty(const AttentionShape& shape) { return heads_of(shape) * rows_of(shape) == 0; }

}  // namespace

const char* unsupported_reason(const AttentionShape& shape) {
  static thread_local std::string reason;
  const auto say = [&](const auto&... parts) {
    std::ostringstream out;
    (out << ... << parts);
    out << "; compiled: bf16, (head dim, degree; 0 = any)";
    for (const CompiledKernels& kernels : kCompiled) out << " (" << kernels.head_dim << "," << kernels.degree << ")";
    reason = out.str();
    return reason.c_str();
  };
  if (shape.batch < 0 || shape.kv_heads < 1 || shape.group < 1) return say("no heads or a negative batch size");
  if (shape.query_len < 0 || shape.query_len > shape.key_len) {
    return say("query_len=", shape.query_len, " must lie in 0..key_len=", shape.key_len);
  }
  if (shape.head_dim < 8 || shape.head_dim > kMaxHeadDim || shape.head_dim % 8 != 0) {
    return say("no kernel for head_dim=", shape.head_dim, ", it must be a multiple of 8 up to ", kMaxHeadDim);
  }
  if (shape.degree < 1 || shape.degree > kMaxDegree) {
    return say("no kernel for degree=", shape.degree, ", it must lie in 1..", kMaxDegree);
  }
  if (!(std::abs(shape.scale) > 0.0) || !std::isfinite(shape.scale)) return say("scale must be finite and not 0");
  if (rows_of(shape) > (int64_t{1} << 30) || int64_t{shape.key_len} > (int64_t{1} << 30)) {
    return say("more than 2^30 query rows of a kv head, or keys");
  }
  // Tiles are counted in the grid's y dimension, which ends at 65535.
  if (ceil_div<int64_t>(rows_of(shape), 32) > 65535) {
    return say("query_len * group = ", rows_of(shape), " is more than ", int64_t{65535} * 32);
  }
  return nullptr;
}

size_t row_stats_floats(const AttentionShape& shape) {
  return heads_of(shape) * rows_of(shape) * (any_degree(shape) ? 2 : 1);
}

size_t forward_workspace_bytes(const AttentionShape& shape, bool gated) {
  AttentionArgs args{};
  Workspace workspace(nullptr);
  take_forward(args, workspace, shape, gated);
  return workspace.used();
}

size_t backward_workspace_bytes(const AttentionShape& shape, bool gated) {
  AttentionArgs args{};
  Workspace workspace(nullptr);
  take_backward(args, workspace, shape, gated);
  return workspace.used();
}

void power_attention_forward(const ForwardParams& params) {
  AttentionArgs args = common_args(params.shape, params.log_g);
  if (empty(params.shape)) return;
  args.q = strided(params.q, "q");
  args.k = strided(params.k, "k");
  args.v = strided(params.v, "v");
  args.y = strided(params.y, "y");
  args.l = params.l;
  set_row_stats(args, params.shape, params.row_stats);
  Workspace workspace(params.workspace);
  take_forward(args, workspace, params.shape, args.gated);
  require(workspace.used() == 0 || params.workspace != nullptr, "workspace is null");
  const CompiledKernels* kernels = find_kernels(params.shape.head_dim, params.shape.degree);
  if (args.gated) run_gate_sums(args, params.stream);
  if (kernels->degree == kAnyDegree) run_key_max(args, params.stream);
  kernels->forward(args, params.stream);
}

void power_attention_backward(const BackwardParams& params) {
  AttentionArgs args = common_args(params.shape, params.log_g);
  require(!empty(params.shape), "the backward pass needs at least one query; zero the gradients instead");
  args.q = strided(params.q, "q");
  args.k = strided(params.k, "k");
  args.v = strided(params.v, "v");
  args.y = strided(params.y, "y");
  args.dy = strided(params.dy, "dy");
  args.dq = strided(params.dq, "dq");
  args.dk = strided(params.dk, "dk");
  args.dv = strided(params.dv, "dv");
  require(!args.gated || params.dlog_g != nullptr, "dlog_g is null though there are gates");
  args.dlog_g = params.dlog_g;
  args.dlog_g_batch = params.dlog_g_batch;
  args.dlog_g_token = params.dlog_g_token;
  args.dlog_g_head = params.dlog_g_head;
  set_row_stats(args, params.shape, const_cast<float*>(params.row_stats));
  Workspace workspace(params.workspace);
  take_backward(args, workspace, params.shape, args.gated);
  require(params.workspace != nullptr, "workspace is null");
  const CompiledKernels* kernels = find_kernels(params.shape.head_dim, params.shape.degree);
  if (args.gated) run_gate_sums(args, params.stream);
  run_backward_rows(args, params.stream);
  if (args.normalize == Normalize::kLayer) {  // the gradient kernels see dY' in place of dY
    const int64_t head = params.shape.head_dim, token = head * params.shape.kv_heads * params.shape.group;
    args.dy = {args.dy_rows, token * params.shape.query_len, token, head};
  }
  kernels->backward_dq(args, params.stream);
  kernels->backward_dkdv(args, params.stream);
  if (args.gated) run_gate_gradient(args, params.stream);
}

}  // namespace power::kernels
