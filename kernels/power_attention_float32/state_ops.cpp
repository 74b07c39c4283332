#include "kernels/power_attention_float32/state_ops.h"

#include "kernels/power_attention/rows.h"
#include "kernels/power_attention_float32/compiled.h"
#include "kernels/power_attention_float32/config.h"
#include "kernels/power_attention_float32/discounted_sum.h"

namespace power::kernels::float32 {
namespace {

// As a call of the operator on these tokens; without queries where there is no scale.
AttentionShape attention_shape(const StateShape& s, double scale) {
  AttentionShape shape;
  shape.dtype = DataType::kFloat32;
  shape.batch = s.batch;
  shape.query_len = scale != 0 ? s.tokens : 0;
  shape.key_len = s.tokens;
  shape.kv_heads = s.kv_heads;
  shape.group = s.group;
  shape.head_dim = s.head_dim;
  shape.degree = s.degree;
  shape.scale = scale != 0 ? scale : 1;
  shape.normalize = Normalize::kNone;
  shape.chunk = s.chunk;
  return shape;
}

void take(Args& args, Workspace& workspace, const AttentionShape& shape, bool gated) {
  args.feature_count = feature_count(shape.head_dim, shape.degree);
  args.features = workspace.take<Feature>(round_up(args.feature_count, kFeaturePadding));
  if (!gated) return;
  take_gates(args.attention, workspace, shape, true);
  args.attention.row_dot = workspace.take<float>(heads_of(shape) * int64_t{shape.key_len} * shape.group);
  args.attention.key_dot = workspace.take<float>(heads_of(shape) * shape.key_len);  // stays zero
  args.attention.key_state_dot = workspace.take<float>(heads_of(shape) * shape.key_len);
}

// Arguments of one call, with the table of features and the sums of gates made.
Args begin(const StateShape& s, double scale, const GateView& log_g, void* memory, void* stream) {
  require(state_ops_serve(s), "no kernel for these states");
  require(memory != nullptr, "workspace is null");
  const AttentionShape shape = attention_shape(s, scale);
  Args args{};
  args.attention = shape_args(shape, log_g);
  args.attention.padded_rows = args.attention.rows;  // of the gradient of l alone
  args.attention.has_initial = true;
  Workspace workspace(memory);
  take(args, workspace, shape, args.attention.gated);
  run_features(args, stream);
  if (args.attention.gated) run_gate_sums(args.attention, stream);
  return args;
}

States states_of(const StateShape& s, const State& state) {
  require(state.state != nullptr && state.key_sum != nullptr, "a state or its key sum is null");
  const int64_t chunks = ceil_div(s.tokens, s.chunk);
  return {state.state, state.key_sum, chunks * s.kv_heads, 1, s.kv_heads};
}

void finish_gates(Args& args, float* dlog_g, void* stream) {
  AttentionArgs& a = args.attention;
  if (!a.gated) return;
  require(dlog_g != nullptr, "dlog_g is null though there are gates");
  a.dlog_g = dlog_g;
  a.dlog_g_batch = int64_t{a.keys} * a.kv_heads.divisor;
  a.dlog_g_token = a.kv_heads.divisor;
  a.dlog_g_head = 1;
  run_gate_gradient(a, stream);
}

}  // namespace

bool state_ops_serve(const StateShape& s) {
  if (s.chunk < 1 || s.tokens < 1 || s.batch < 1 || s.head_dim > largest_state_head_dim(s.degree)) return false;
  return shape_problem(attention_shape(s, 1), kSmallestTile, kSmallestTile, 1).empty();
}

size_t state_workspace_bytes(const StateShape& s, bool gated) {
  Args args{};
  Workspace workspace(nullptr);
  take(args, workspace, attention_shape(s, 1), gated);
  return workspace.used();
}

void update_state(const UpdateStateParams& params) {
  const Args args = begin(params.shape, 0, params.log_g, params.workspace, params.stream);
  find_kernels(params.shape.head_dim)
      .chunk_sums({.call = args,
                   .x = view_of(params.k, "k"),
                   .u = view_of(params.v, "v"),
                   .sums = states_of(params.shape, params.sums)},
                  args.attention.chunks, params.stream);
}

void update_state_backward(const UpdateStateBackwardParams& params) {
  Args args = begin(params.shape, 0, params.log_g, params.workspace, params.stream);
  find_kernels(params.shape.head_dim)
      .state_rows({.call = args,
                   .x = view_of(params.k, "k"),
                   .u = view_of(params.v, "v"),
                   .out = view_of(params.dv, "dv"),
                   .dx = view_of(params.dk, "dk"),
                   .dx_dot = args.attention.key_state_dot,
                   .states = states_of(params.shape, params.dsums)},
                  args.attention.chunks, params.stream);
  finish_gates(args, params.dlog_g, params.stream);
}

void query_state(const QueryStateParams& params) {
  const Args args = begin(params.shape, params.scale, params.log_g, params.workspace, params.stream);
  find_kernels(params.shape.head_dim)
      .state_rows({.call = args,
                   .x = view_of(params.q, "q"),
                   .out = view_of(params.y, "y"),
                   .key_out = params.l,
                   .states = states_of(params.shape, params.states),
                   .of_queries = true,
                   .factor = args.attention.scale_power},
                  args.attention.chunks, params.stream);
}

void query_state_backward(const QueryStateBackwardParams& params) {
  Args args = begin(params.shape, params.scale, params.log_g, params.workspace, params.stream);
  AttentionArgs& a = args.attention;
  a.delta = const_cast<float*>(params.minus_dl);
  a.key_state_dot = nullptr;  // the gates weigh on rows only
  const CompiledKernels& kernels = find_kernels(params.shape.head_dim);
  const View q = view_of(params.q, "q"), dy = view_of(params.dy, "dy");
  kernels.state_rows({.call = args,
                      .x = q,
                      .u = dy,
                      .dx = view_of(params.dq, "dq"),
                      .dx_dot = a.row_dot,
                      .states = states_of(params.shape, params.states),
                      .of_queries = true,
                      .dx_factor = a.scale_power},
                     a.chunks, params.stream);
  kernels.chunk_sums({.call = args,
                      .x = q,
                      .u = dy,
                      .sums = states_of(params.shape, params.dstates),
                      .of_queries = true,
                      .factor = a.scale_power},
                     a.chunks, params.stream);
  finish_gates(args, params.dlog_g, params.stream);
}

bool discounted_sum_serves(int64_t batch, int64_t chunks, int64_t heads, int64_t elements) {
  constexpr int64_t kMost = int64_t{1} << 30;
  return batch > 0 && chunks > 0 && heads > 0 && elements > 0 && batch * heads < kMost && chunks < kMost &&
         elements < kMost && discounted_sum_parts(static_cast<int>(elements)) / kDiscountedWarps <= 65535;
}

void discounted_sum(const DiscountedSum& params) { run_discounted_sum(params); }
void discounted_sum_backward(const DiscountedSumBackward& params) { run_discounted_sum_backward(params); }

}  // namespace power::kernels::float32
