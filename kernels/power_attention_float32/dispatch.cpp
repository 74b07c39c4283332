#include "kernels/power_attention_float32/dispatch.h"

#include <sstream>

#include "kernels/power_attention/call.h"
#include "kernels/power_attention/rows.h"
#include "kernels/power_attention_float32/compiled.h"
#include "kernels/power_attention_float32/config.h"

namespace power::kernels::float32 {
namespace {

bool scales_rows(const AttentionShape& shape) { return shape.degree > 2; }

bool has_states(const AttentionShape& shape) { return shape.head_dim <= largest_state_head_dim(shape.degree); }

void take_features(Args& args, Workspace& workspace, const AttentionShape& shape) {
  if (!has_states(shape)) return;  // refused later, with the reason
  args.feature_count = feature_count(shape.head_dim, shape.degree);
  args.features = workspace.take<Feature>(round_up(args.feature_count, kFeaturePadding));
}

void take_states(States& states, Workspace& workspace, const AttentionShape& shape) {
  if (!has_states(shape)) return;
  const int64_t chunks = chunks_of(shape), count = heads_of(shape) * chunks,
                features = feature_count(shape.head_dim, shape.degree);
  states = {workspace.take<float>(count * features * shape.head_dim), workspace.take<float>(count * features),
            shape.kv_heads * chunks, chunks, 1};
}

void take_forward(Args& args, Workspace& workspace, const ForwardParams& params) {
  const AttentionShape& shape = params.shape;
  take_gates(args.attention, workspace, shape, params.log_g.data != nullptr);
  if (scales_rows(shape)) args.attention.key_max = workspace.take<float>(heads_of(shape));
  if (!reads_states(shape, params.initial) && params.final.state == nullptr) return;
  take_features(args, workspace, shape);
  if (params.states != nullptr) {
    Workspace saved(params.states);
    take_states(args.states, saved, shape);
  } else {
    take_states(args.states, workspace, shape);
  }
}

// Returns where dY' of `layer` goes.
float* take_backward(Args& args, Workspace& workspace, const BackwardParams& params) {
  const AttentionShape& shape = params.shape;
  const bool gated = params.log_g.data != nullptr, layer = shape.normalize == Normalize::kLayer;
  take_gates(args.attention, workspace, shape, gated);
  take_row_sums(args.attention, workspace, shape, gated);
  float* dy_rows = layer ? workspace.take<float>(heads_of(shape) * rows_of(shape) * shape.head_dim) : nullptr;
  if (!reads_states(shape, params.initial) && params.dfinal.state == nullptr) return dy_rows;
  take_features(args, workspace, shape);
  if (params.states != nullptr) {
    Workspace saved(const_cast<void*>(params.states));
    take_states(args.states, saved, shape);
  } else if (reads_states(shape, params.initial)) {
    take_states(args.states, workspace, shape);
  }
  take_states(args.dstates, workspace, shape);
  if (!gated) return dy_rows;
  AttentionArgs& a = args.attention;
  a.state_dot_parts = state_dot_parts(args.feature_count, shape.head_dim);
  a.state_dot = workspace.take<float>(heads_of(shape) * chunks_of(shape) * a.state_dot_parts);
  a.key_state_dot = workspace.take<float>(heads_of(shape) * shape.key_len);
  return dy_rows;
}

Args common_args(const AttentionShape& shape, const GateView& log_g, float* row_stats) {
  if (const char* reason = float32::unsupported_reason(shape)) require(false, reason);
  Args args{};
  args.attention = shape_args(shape, log_g);
  require(row_stats != nullptr || empty(shape), "row_stats is null");
  args.attention.inverse = row_stats;
  args.attention.row_scale = scales_rows(shape) ? row_stats + heads_of(shape) * rows_of(shape) : nullptr;
  return args;
}

void check_state(const AttentionShape& shape, const State& state, const char* name) {
  require((state.state == nullptr) == (state.key_sum == nullptr),
          std::string(name) + " needs both the state and the key sum");
  require(state.state == nullptr || has_states(shape),
          std::string(name) + ": no state kernel for degree=" + std::to_string(shape.degree) +
              " head_dim=" + std::to_string(shape.head_dim));
}

// The first chunk whose queries read a state.
int first_reading_chunk(const AttentionArgs& args) {
  return std::max(args.first_query_chunk, args.has_initial ? 0 : 1);
}

// The state before each chunk and, where asked for, the one after the last.
void make_states(const Args& args, const CompiledKernels& kernels, const State& initial, const State& final,
                 void* stream) {
  const int chunks = args.attention.chunks;
  kernels.chunk_sums({.call = args, .x = args.k, .u = args.v, .sums = args.states},
                     final.state != nullptr ? chunks : chunks - 1, stream);
  run_state_scan(args, {initial.state, initial.key_sum, final.state, final.key_sum}, stream);
}

}  // namespace

const char* unsupported_reason(const AttentionShape& shape) {
  static thread_local std::string reason;
  reason = shape_problem(shape, kSmallestTile, kSmallestTile, 1);
  if (reason.empty() && chunks_of(shape) > 1 && !has_states(shape)) {
    reason =
        "no chunked kernel for degree=" + std::to_string(shape.degree) + " head_dim=" + std::to_string(shape.head_dim);
  }
  if (reason.empty()) return nullptr;
  std::ostringstream out;
  out << reason << "; compiled: float32, any degree, head dims filled up to";
  for (const CompiledKernels& kernels : kCompiled) out << " " << kernels.head_dim;
  out << "; with states (degree, largest head dim)";
#define POWER_DEGREE(degree, head_dim) out << " (" << degree << "," << head_dim << ")";
  POWER_ATTENTION_FLOAT32_STATE_DEGREES(POWER_DEGREE)
#undef POWER_DEGREE
  reason = out.str();
  return reason.c_str();
}

size_t shared_memory_bytes(const AttentionShape& shape) { return find_kernels(shape.head_dim).shared_bytes(); }

size_t row_stats_floats(const AttentionShape& shape) {
  return heads_of(shape) * rows_of(shape) * (scales_rows(shape) ? 2 : 1);
}

size_t saved_states_bytes(const AttentionShape& shape, bool has_initial) {
  if (chunks_of(shape) == 1 && !has_initial) return 0;
  Workspace workspace(nullptr);
  States states{};
  take_states(states, workspace, shape);
  return workspace.used();
}

size_t forward_workspace_bytes(const ForwardParams& params) {
  Args args{};
  Workspace workspace(nullptr);
  take_forward(args, workspace, params);
  return workspace.used();
}

size_t backward_workspace_bytes(const BackwardParams& params) {
  Args args{};
  Workspace workspace(nullptr);
  take_backward(args, workspace, params);
  return workspace.used();
}

void forward(const ForwardParams& params) {
  Args args = common_args(params.shape, params.log_g, params.row_stats);
  if (empty(params.shape)) return;
  check_state(params.shape, params.initial, "initial");
  check_state(params.shape, params.final, "final");
  args.q = view_of(params.q, "q");
  args.k = view_of(params.k, "k");
  args.v = view_of(params.v, "v");
  args.y = view_of(params.y, "y");
  AttentionArgs& a = args.attention;
  a.l = params.l;
  a.has_initial = params.initial.state != nullptr;
  a.has_final = params.final.state != nullptr;
  Workspace workspace(params.workspace);
  take_forward(args, workspace, params);
  require(workspace.used() == 0 || params.workspace != nullptr, "workspace is null");
  const CompiledKernels& kernels = find_kernels(params.shape.head_dim);
  if (a.gated) run_gate_sums(a, params.stream);
  if (scales_rows(params.shape)) run_row_scales(args, params.stream);
  if (args.states.sums != nullptr) {
    run_features(args, params.stream);
    make_states(args, kernels, params.initial, params.final, params.stream);
    const int first = first_reading_chunk(a);
    kernels.state_rows({.call = args,
                        .x = args.q,
                        .out = args.y,
                        .key_out = a.inverse,
                        .states = args.states,
                        .of_queries = true,
                        .first_chunk = first},
                       a.chunks - first, params.stream);
  }
  kernels.forward(args, params.stream);
}

void backward(const BackwardParams& params) {
  Args args = common_args(params.shape, params.log_g, const_cast<float*>(params.row_stats));
  require(!empty(params.shape), "the backward pass needs at least one query; zero the gradients instead");
  check_state(params.shape, params.initial, "initial");
  check_state(params.shape, params.dfinal, "dfinal");
  require(params.dinitial.state == nullptr || params.initial.state != nullptr,
          "dinitial is asked for and there is no initial state");
  require(params.dl == nullptr || (params.l != nullptr && params.shape.normalize != Normalize::kLayer),
          "dl needs l, and the normalisation sum or none");
  args.q = view_of(params.q, "q");
  args.k = view_of(params.k, "k");
  args.v = view_of(params.v, "v");
  args.y = view_of(params.y, "y");
  args.dy = view_of(params.dy, "dy");
  args.dq = view_of(params.dq, "dq");
  args.dk = view_of(params.dk, "dk");
  args.dv = view_of(params.dv, "dv");
  args.dl = params.dl;
  AttentionArgs& a = args.attention;
  a.l = const_cast<float*>(params.l);
  set_gate_gradient(a, params);
  a.has_initial = params.initial.state != nullptr;
  a.has_final = params.dfinal.state != nullptr;
  Workspace workspace(params.workspace);
  float* dy_rows = take_backward(args, workspace, params);
  require(params.workspace != nullptr, "workspace is null");
  void* stream = params.stream;
  const CompiledKernels& kernels = find_kernels(params.shape.head_dim);
  if (a.gated) run_gate_sums(a, stream);
  if (args.features != nullptr) run_features(args, stream);
  if (args.states.sums != nullptr && params.states == nullptr) make_states(args, kernels, params.initial, {}, stream);
  run_backward_rows(args, dy_rows, stream);
  if (dy_rows != nullptr) {  // the gradient kernels see dY' in place of dY
    const int64_t head = params.shape.head_dim, token = head * params.shape.kv_heads * params.shape.group;
    args.dy = {dy_rows, token * params.shape.query_len, token, head};
  }
  const int first = first_reading_chunk(a);
  const float dx_factor = 1.0f / static_cast<float>(a.degree);  // the kernels of the pairs multiply by the degree
  if (args.states.sums != nullptr) {
    kernels.state_rows({.call = args,
                        .x = args.q,
                        .u = args.dy,
                        .dx = args.dq,
                        .states = args.states,
                        .of_queries = true,
                        .first_chunk = first,
                        .dx_factor = dx_factor},
                       a.chunks - first, stream);
  }
  kernels.backward_dq(args, stream);
  if (args.dstates.sums != nullptr) {
    kernels.chunk_sums(
        {.call = args, .x = args.q, .u = args.dy, .sums = args.dstates, .of_queries = true, .first_chunk = first},
        a.chunks - first, stream);
    run_dstate_scan(args, {params.dfinal.state, params.dfinal.key_sum, params.dinitial.state, params.dinitial.key_sum},
                    stream);
    kernels.state_rows({.call = args,
                        .x = args.k,
                        .u = args.v,
                        .out = args.dv,
                        .dx = args.dk,
                        .states = args.dstates,
                        .dx_factor = dx_factor},
                       a.has_final ? a.chunks : a.chunks - 1, stream);
  }
  kernels.backward_dkdv(args, stream);
  if (a.gated) run_gate_gradient(a, stream);
}

}  // namespace power::kernels::float32
