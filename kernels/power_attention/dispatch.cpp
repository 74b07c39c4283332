#include <algorithm>
#include <sstream>
#include <string>

#include "kernels/power_attention/bwd.h"
#include "kernels/power_attention/call.h"
#include "kernels/power_attention/chunk_sums.h"
#include "kernels/power_attention/fwd.h"
#include "kernels/power_attention/power_attention.h"
#include "kernels/power_attention/rows.h"
#include "kernels/power_attention/state_scan.h"
#include "kernels/power_attention/state_shape.h"
#include "kernels/power_attention/supported.h"
#include "kernels/power_attention_float32/dispatch.h"

namespace power::kernels {
namespace {

using Launcher = void (*)(AttentionArgs, void*);
using ChunkLauncher = void (*)(const AttentionArgs&, int first, int end, void*);
using ScanLauncher = void (*)(const AttentionArgs&, const PublicStates&, void*);

struct CompiledKernels {
  int head_dim, degree;
  Launcher forward, backward_dq, backward_dkdv;
};

struct CompiledStateKernels {
  int head_dim, degree;
  ChunkLauncher chunk_states, chunk_dstates;
  ScanLauncher scan, reverse_scan;
};

#define POWER_ROW(head_dim, degree)                                                                           \
  {head_dim, degree, run_power_attention_fwd<head_dim, degree>, run_power_attention_bwd_dq<head_dim, degree>, \
   run_power_attention_bwd_dkdv<head_dim, degree>},
#define POWER_ROWS(head_dim) POWER_ATTENTION_DEGREES(POWER_ROW, head_dim)
constexpr CompiledKernels kCompiled[] = {POWER_ATTENTION_HEAD_DIMS(POWER_ROWS)};
#undef POWER_ROWS
#undef POWER_ROW

#define POWER_ROW(head_dim, degree)     \
  {head_dim,                            \
   degree,                              \
   run_chunk_states<head_dim, degree>,  \
   run_chunk_dstates<head_dim, degree>, \
   run_state_scan<head_dim, degree>,    \
   run_dstate_scan<head_dim, degree>},
#define POWER_ROWS(head_dim) POWER_ATTENTION_STATE_DEGREES(POWER_ROW, head_dim)
constexpr CompiledStateKernels kCompiledStates[] = {POWER_ATTENTION_HEAD_DIMS(POWER_ROWS)};
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

const CompiledStateKernels* find_state_kernels(const AttentionShape& shape) {
  const CompiledKernels* kernels = find_kernels(shape.head_dim, shape.degree);
  for (const CompiledStateKernels& states : kCompiledStates) {
    if (kernels != nullptr && states.head_dim == kernels->head_dim && states.degree == shape.degree) return &states;
  }
  return nullptr;
}

bool any_degree(const AttentionShape& shape) {
  const CompiledKernels* kernels = find_kernels(shape.head_dim, shape.degree);
  return kernels != nullptr && kernels->degree == kAnyDegree;
}

int64_t image_elements(const AttentionShape& shape, int dim) {
  return heads_of(shape) * chunks_of(shape) * image_blocks(dim, shape.head_dim, shape.degree) * block_elements(dim);
}

int64_t key_elements(const AttentionShape& shape, int dim) {
  return heads_of(shape) * chunks_of(shape) * key_products(dim, shape.degree);
}

void take_states(StateArrays& states, Workspace& workspace, const AttentionShape& shape) {
  const CompiledStateKernels* kernels = find_state_kernels(shape);
  if (kernels == nullptr) return;  // refused later, with the reason
  states.images = workspace.take<uint16_t>(image_elements(shape, kernels->head_dim));
  states.keys = workspace.take<float>(key_elements(shape, kernels->head_dim));
}

void take_forward(AttentionArgs& args, Workspace& workspace, const ForwardParams& params) {
  const AttentionShape& shape = params.shape;
  take_gates(args, workspace, shape, params.log_g.data != nullptr);
  if (any_degree(shape)) args.key_max = workspace.take<float>(heads_of(shape));
  if (params.states != nullptr) {
    Workspace saved(params.states);
    take_states(args.states, saved, shape);
  } else if (reads_states(shape, params.initial) || params.final.state != nullptr) {
    take_states(args.states, workspace, shape);
  }
}

void take_backward(AttentionArgs& args, Workspace& workspace, const BackwardParams& params) {
  const AttentionShape& shape = params.shape;
  const bool gated = params.log_g.data != nullptr;
  take_gates(args, workspace, shape, gated);
  take_row_sums(args, workspace, shape, gated);
  if (shape.normalize == Normalize::kLayer) {
    args.dy_rows = workspace.take<uint16_t>(heads_of(shape) * rows_of(shape) * shape.head_dim);
  }
  if (params.states != nullptr) {
    Workspace saved(const_cast<void*>(params.states));
    take_states(args.states, saved, shape);
  } else if (reads_states(shape, params.initial)) {
    take_states(args.states, workspace, shape);
  }
  if (!reads_states(shape, params.initial) && params.dfinal.state == nullptr) return;
  take_states(args.dstates, workspace, shape);
  if (!gated) return;
  const CompiledStateKernels* kernels = find_state_kernels(shape);
  if (kernels == nullptr) return;
  args.state_dot_parts = state_dot_parts(kernels->head_dim, shape.head_dim, shape.degree);
  args.state_dot = workspace.take<float>(heads_of(shape) * chunks_of(shape) * args.state_dot_parts);
  args.key_state_dot = workspace.take<float>(heads_of(shape) * shape.key_len);
}

StridedView strided(const TensorView& view, const char* name) {
  const bool aligned = reinterpret_cast<uintptr_t>(view.data) % 16 == 0 && view.batch % 8 == 0 && view.token % 8 == 0 &&
                       view.head % 8 == 0;
  require(view.data != nullptr, std::string(name) + " is null");
  require(aligned, std::string(name) + " has data or strides that are no multiple of 16 bytes; pass a contiguous copy");
  constexpr int64_t kStrideLimit = int64_t{1} << 30;  // bytes are counted in 31 bits
  require(std::abs(view.token) < kStrideLimit && std::abs(view.head) < kStrideLimit,
          std::string(name) + " has strides of 2^30 elements or more between tokens or heads; pass a contiguous copy");
  return {static_cast<const uint16_t*>(view.data), view.batch, view.token, view.head};
}

AttentionArgs common_args(const AttentionShape& shape, const GateView& log_g) {
  if (const char* reason = unsupported_reason(shape)) require(false, reason);
  AttentionArgs args = shape_args(shape, log_g);
  if (const CompiledStateKernels* kernels = find_state_kernels(shape)) {
    args.state_tiles = state_tiles(kernels->head_dim, shape.head_dim, shape.degree);
  }
  return args;
}

void set_row_stats(AttentionArgs& args, const AttentionShape& shape, float* row_stats) {
  require(row_stats != nullptr, "row_stats is null");
  args.inverse = row_stats;
  args.row_scale = any_degree(shape) ? row_stats + heads_of(shape) * rows_of(shape) : nullptr;
}

}  // namespace

std::string shape_problem(const AttentionShape& shape, int row_tile, int key_tile, int chunk_unit) {
  std::ostringstream out;
  const int64_t row_tiles = ceil_div<int64_t>(int64_t{chunk_of(shape)} * shape.group, row_tile);
  const int64_t key_tiles = ceil_div<int64_t>(chunk_of(shape), key_tile);
  if (shape.batch < 0 || shape.kv_heads < 1 || shape.group < 1) {
    out << "no heads or a negative batch size";
  } else if (shape.query_len < 0 || shape.query_len > shape.key_len) {
    out << "query_len=" << shape.query_len << " must lie in 0..key_len=" << shape.key_len;
  } else if (shape.head_dim < 8 || shape.head_dim > kMaxHeadDim || shape.head_dim % 8 != 0) {
    out << "no kernel for head_dim=" << shape.head_dim << ", it must be a multiple of 8 up to " << kMaxHeadDim;
  } else if (shape.degree < 1 || shape.degree > kMaxDegree) {
    out << "no kernel for degree=" << shape.degree << ", it must lie in 1.." << kMaxDegree;
  } else if (!(std::abs(shape.scale) > 0.0) || !std::isfinite(shape.scale)) {
    out << "scale must be finite and not 0";
  } else if (rows_of(shape) > (int64_t{1} << 30) || int64_t{shape.key_len} > (int64_t{1} << 30)) {
    out << "more than 2^30 query rows of a kv head, or keys";
  } else if (shape.chunk < 0 || shape.chunk % chunk_unit != 0) {
    out << "chunk=" << shape.chunk << " must be a multiple of " << chunk_unit << " or 0";
  } else if (chunks_of(shape) * std::max(row_tiles, key_tiles) > 65535) {
    // Tiles are counted in the grid's y dimension, which ends there.
    out << "key_len=" << shape.key_len << " in chunks of " << chunk_of(shape) << " with group=" << shape.group
        << " makes more than 65535 tiles";
  }
  return out.str();
}

const char* unsupported_reason(const AttentionShape& shape) {
  if (shape.dtype == DataType::kFloat32) return float32::unsupported_reason(shape);
  static thread_local std::string reason;
  reason = shape_problem(shape, 128, 64, kGateTile);
  if (reason.empty() && chunks_of(shape) > 1 && find_state_kernels(shape) == nullptr) {
    reason = "no chunked kernel for degree=" + std::to_string(shape.degree) + ", it must be 1 or 2";
  }
  if (reason.empty()) return nullptr;
  std::ostringstream out;
  out << reason << "; compiled: bf16, (head dim, degree; 0 = any)";
  for (const CompiledKernels& kernels : kCompiled) out << " (" << kernels.head_dim << "," << kernels.degree << ")";
  reason = out.str();
  return reason.c_str();
}

size_t row_stats_floats(const AttentionShape& shape) {
  if (shape.dtype == DataType::kFloat32) return float32::row_stats_floats(shape);
  return heads_of(shape) * rows_of(shape) * (any_degree(shape) ? 2 : 1);
}

size_t saved_states_bytes(const AttentionShape& shape, bool has_initial) {
  if (shape.dtype == DataType::kFloat32) return float32::saved_states_bytes(shape, has_initial);
  if (chunks_of(shape) == 1 && !has_initial) return 0;
  Workspace workspace(nullptr);
  StateArrays states;
  take_states(states, workspace, shape);
  return workspace.used();
}

size_t forward_workspace_bytes(const ForwardParams& params) {
  if (params.shape.dtype == DataType::kFloat32) return float32::forward_workspace_bytes(params);
  AttentionArgs args{};
  Workspace workspace(nullptr);
  take_forward(args, workspace, params);
  return workspace.used();
}

size_t backward_workspace_bytes(const BackwardParams& params) {
  if (params.shape.dtype == DataType::kFloat32) return float32::backward_workspace_bytes(params);
  AttentionArgs args{};
  Workspace workspace(nullptr);
  take_backward(args, workspace, params);
  return workspace.used();
}

namespace {

void check_state(const AttentionShape& shape, const State& state, const char* name) {
  require((state.state == nullptr) == (state.key_sum == nullptr),
          std::string(name) + " needs both the state and the key sum");
  require(state.state == nullptr || find_state_kernels(shape) != nullptr,
          std::string(name) + " needs degree 1 or 2, found " + std::to_string(shape.degree));
}

// The state before each chunk and, where asked for, the one after the last.
void make_states(AttentionArgs args, const AttentionShape& shape, const State& initial, const State& final,
                 void* stream) {
  const CompiledStateKernels* kernels = find_state_kernels(shape);
  args.has_final = final.state != nullptr;
  kernels->chunk_states(args, 0, args.has_final ? args.chunks : args.chunks - 1, stream);
  kernels->scan(args, {initial.state, initial.key_sum, final.state, final.key_sum}, stream);
}

}  // namespace

void power_attention_forward(const ForwardParams& params) {
  if (params.shape.dtype == DataType::kFloat32) return float32::forward(params);
  AttentionArgs args = common_args(params.shape, params.log_g);
  if (empty(params.shape)) return;
  check_state(params.shape, params.initial, "initial");
  check_state(params.shape, params.final, "final");
  args.q = strided(params.q, "q");
  args.k = strided(params.k, "k");
  args.v = strided(params.v, "v");
  args.y = strided(params.y, "y");
  args.l = params.l;
  args.has_initial = params.initial.state != nullptr;
  set_row_stats(args, params.shape, params.row_stats);
  Workspace workspace(params.workspace);
  take_forward(args, workspace, params);
  require(workspace.used() == 0 || params.workspace != nullptr, "workspace is null");
  const CompiledKernels* kernels = find_kernels(params.shape.head_dim, params.shape.degree);
  if (args.gated) run_gate_sums(args, params.stream);
  if (kernels->degree == kAnyDegree) run_key_max(args, params.stream);
  if (args.states.images != nullptr) make_states(args, params.shape, params.initial, params.final, params.stream);
  kernels->forward(args, params.stream);
}

void power_attention_backward(const BackwardParams& params) {
  if (params.shape.dtype == DataType::kFloat32) return float32::backward(params);
  require(params.dl == nullptr, "dl, the gradient of l, needs float32");
  AttentionArgs args = common_args(params.shape, params.log_g);
  require(!empty(params.shape), "the backward pass needs at least one query; zero the gradients instead");
  check_state(params.shape, params.initial, "initial");
  check_state(params.shape, params.dfinal, "dfinal");
  require(params.dinitial.state == nullptr || params.initial.state != nullptr,
          "dinitial is asked for and there is no initial state");
  args.q = strided(params.q, "q");
  args.k = strided(params.k, "k");
  args.v = strided(params.v, "v");
  args.y = strided(params.y, "y");
  args.dy = strided(params.dy, "dy");
  args.dq = strided(params.dq, "dq");
  args.dk = strided(params.dk, "dk");
  args.dv = strided(params.dv, "dv");
  set_gate_gradient(args, params);
  args.has_initial = params.initial.state != nullptr;
  args.has_final = params.dfinal.state != nullptr;
  set_row_stats(args, params.shape, const_cast<float*>(params.row_stats));
  Workspace workspace(params.workspace);
  take_backward(args, workspace, params);
  require(params.workspace != nullptr, "workspace is null");
  const CompiledKernels* kernels = find_kernels(params.shape.head_dim, params.shape.degree);
  if (args.gated) run_gate_sums(args, params.stream);
  if (args.states.images != nullptr && params.states == nullptr) {
    make_states(args, params.shape, params.initial, {}, params.stream);
  }
  run_backward_rows(args, params.stream);
  if (args.normalize == Normalize::kLayer) {  // the gradient kernels see dY' in place of dY
    const int64_t head = params.shape.head_dim, token = head * params.shape.kv_heads * params.shape.group;
    args.dy = {args.dy_rows, token * params.shape.query_len, token, head};
  }
  kernels->backward_dq(args, params.stream);
  if (args.dstates.images != nullptr) {
    const CompiledStateKernels* states = find_state_kernels(params.shape);
    const int first = std::max(args.first_query_chunk, args.has_initial ? 0 : 1);
    states->chunk_dstates(args, first, args.chunks, params.stream);
    states->reverse_scan(args,
                         {params.dfinal.state, params.dfinal.key_sum, params.dinitial.state, params.dinitial.key_sum},
                         params.stream);
  }
  kernels->backward_dkdv(args, params.stream);
  if (args.gated) run_gate_gradient(args, params.stream);
}

}  // namespace power::kernels
