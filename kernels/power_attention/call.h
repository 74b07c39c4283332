#pragma once

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

#include "kernels/power_attention/args.h"

// What dispatch derives from a call, for the bf16 and the float32 kernels alike.
namespace power::kernels {

inline int64_t heads_of(const AttentionShape& shape) { return int64_t{shape.batch} * shape.kv_heads; }
inline int64_t rows_of(const AttentionShape& shape) { return int64_t{shape.query_len} * shape.group; }
inline int chunk_of(const AttentionShape& shape) { return shape.chunk > 0 ? shape.chunk : std::max(shape.key_len, 1); }
inline int chunks_of(const AttentionShape& shape) { return std::max(ceil_div(shape.key_len, chunk_of(shape)), 1); }
inline int64_t padded(int64_t n) { return round_up<int64_t>(n, kGateTile); }
inline bool empty(const AttentionShape& shape) { return heads_of(shape) * rows_of(shape) == 0; }

inline bool reads_states(const AttentionShape& shape, const State& initial) {
  return chunks_of(shape) > 1 || initial.state != nullptr;
}

inline void require(bool condition, const std::string& message) {
  if (!condition) throw std::invalid_argument("power_attention kernels: " + message);
}

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

inline void take_gates(AttentionArgs& args, Workspace& workspace, const AttentionShape& shape, bool gated) {
  if (!gated) return;
  const int64_t count = heads_of(shape) * padded(shape.key_len);
  args.gates = {workspace.take<FloatPair>(count), workspace.take<int>(count), workspace.take<float>(count)};
  args.gate_totals = workspace.take<GateTotal>(heads_of(shape) * ceil_div<int64_t>(padded(shape.key_len), kScanSpan));
}

// What the backward pass needs for each row and key, without states.
inline void take_row_sums(AttentionArgs& args, Workspace& workspace, const AttentionShape& shape, bool gated) {
  const int64_t rows = heads_of(shape) * padded(rows_of(shape));
  args.row_weight = workspace.take<float>(rows);
  args.delta = workspace.take<float>(rows);
  if (!gated) return;
  args.row_dot = workspace.take<float>(heads_of(shape) * rows_of(shape));
  args.key_dot = workspace.take<float>(heads_of(shape) * shape.key_len);
}

// Sizes and gates; the shape is a supported one.
inline AttentionArgs shape_args(const AttentionShape& shape, const GateView& log_g) {
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
  args.chunk = chunk_of(shape);
  args.chunks = chunks_of(shape);
  args.first_query_chunk = args.first_key / args.chunk;
  args.scale_power = static_cast<float>(std::pow(shape.scale, shape.degree));
  args.normalize = shape.normalize;
  args.gated = log_g.data != nullptr;
  args.log_g = log_g.data;
  args.log_g_batch = log_g.batch;
  args.log_g_token = log_g.token;
  args.log_g_head = log_g.head;
  return args;
}

inline void set_gate_gradient(AttentionArgs& args, const BackwardParams& params) {
  require(!args.gated || params.dlog_g != nullptr, "dlog_g is null though there are gates");
  args.dlog_g = params.dlog_g;
  args.dlog_g_batch = params.dlog_g_batch;
  args.dlog_g_token = params.dlog_g_token;
  args.dlog_g_head = params.dlog_g_head;
}

// Empty where sizes and options are in range, else what is not. The smallest tiles have this many query rows, keys;
// chunks are multiples of chunk_unit.
std::string shape_problem(const AttentionShape& shape, int row_tile, int key_tile, int chunk_unit);

}  // namespace power::kernels
