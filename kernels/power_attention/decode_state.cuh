#pragma once

#include "kernels/common/launch.h"
#include "kernels/power_attention/decode_fold.cuh"

// Between the records' states and the public layout sym-lex/1, and the fold of whole windows before that.
namespace power::kernels {

template <int kDim>
struct DecodeFlushShared {
  DecodeFoldShared<kDim> fold;
  int is_last;
};

// Block (record, split): every window into its state.
template <int kDim, int kDegree>
__global__ void __launch_bounds__(kDecodeThreads) decode_fold_kernel(const __grid_constant__ DecodeArgs args) {
  POWER_SHARED_MEMORY(memory);
  auto& shared = *reinterpret_cast<DecodeFlushShared<kDim>*>(memory);
  const int thread = threadIdx.x, index = divide(blockIdx.x, args.splits);
  const int splits = static_cast<int>(args.splits.divisor), split = static_cast<int>(blockIdx.x) - index * splits;
  const DecodeRecord record(args, index);
  const DecodeMeta meta = record.meta();
  if (meta.length == 0) return;
  fold_window<kDim, kDegree>(shared.fold, args, record, meta, split * args.layout.steps / splits,
                             (split + 1) * args.layout.steps / splits, thread);
  if (!last_to_arrive(args, record, &shared.is_last, thread)) return;
  if (thread == 0) *record.at<DecodeMeta>(0) = {0, 0.0f, 1, meta.folded, 0};
}

// Where row r of a step stands in sym-lex/1, or -1: index pairs i <= j in lexicographic order, of head_dim indices.
template <int kDim, int kDegree>
POWER_DEVICE int lexicographic_row(int step, int r, int head_dim) {
  const FeatureStep<kDim, kDegree> features(step);
  const int i = features.first + r, j = (i + features.shift) % kDim;
  const int low = i < j ? i : j, high = i < j ? j : i;
  if (high >= head_dim) return -1;
  return kDegree == 1 ? i : low * head_dim - low * (low - 1) / 2 + high - low;
}

template <int kDegree>
POWER_DEVICE int lexicographic_rows(int head_dim) {
  return kDegree == 1 ? head_dim : head_dim * (head_dim + 1) / 2;
}

POWER_DEVICE int key_sum_index(int step, int r) { return step * kDecodeStepRows + r % 8 / 2 * 4 + r / 8 * 2 + r % 2; }

// Block (record, step).
template <int kDim, int kDegree>
__global__ void __launch_bounds__(kDecodeThreads) decode_import_kernel(const __grid_constant__ DecodeArgs args) {
  const int thread = threadIdx.x, index = divide(blockIdx.x, args.splits);
  const int step = static_cast<int>(blockIdx.x) - index * static_cast<int>(args.splits.divisor);
  const DecodeRecord record(args, index);
  const int64_t first_row = int64_t{index} * lexicographic_rows<kDegree>(args.head_dim);
  uint16_t* high = record.at<uint16_t>(args.layout.state_high);
  uint16_t* low = record.at<uint16_t>(args.layout.state_low);
  for (int i = thread; i < kDecodeStepRows * kDim; i += kDecodeThreads) {
    const int r = i / kDim, column = i % kDim, row = lexicographic_row<kDim, kDegree>(step, r, args.head_dim);
    const bool present = row >= 0 && column < args.head_dim;
    const float x = present ? args.state[(first_row + row) * args.head_dim + column] : 0.0f;
    const uint32_t rounded = pack_bf16(x, 0.0f);
    const int at = step * (kDecodeStepRows * kDim) + fragment_index(r, column);
    high[at] = static_cast<uint16_t>(rounded);
    low[at] = static_cast<uint16_t>(pack_bf16(x - bf16_low(rounded), 0.0f));
    if (column == 0) {
      record.at<float>(args.layout.key_sum)[key_sum_index(step, r)] = row >= 0 ? args.key_sum[first_row + row] : 0.0f;
    }
  }
  if (step == 0 && thread == 0) *record.at<DecodeMeta>(0) = {0, 0.0f, 1, 0, 0};
}

// Block (record, step); the windows are empty.
template <int kDim, int kDegree>
__global__ void __launch_bounds__(kDecodeThreads) decode_export_kernel(const __grid_constant__ DecodeArgs args) {
  const int thread = threadIdx.x, index = divide(blockIdx.x, args.splits);
  const int step = static_cast<int>(blockIdx.x) - index * static_cast<int>(args.splits.divisor);
  const DecodeRecord record(args, index);
  const int64_t first_row = int64_t{index} * lexicographic_rows<kDegree>(args.head_dim);
  const uint16_t* high = record.at<const uint16_t>(args.layout.state_high);
  const uint16_t* low = record.at<const uint16_t>(args.layout.state_low);
  const bool has_state = record.meta().has_state;
  for (int i = thread; i < kDecodeStepRows * kDim; i += kDecodeThreads) {
    const int r = i / kDim, column = i % kDim, row = lexicographic_row<kDim, kDegree>(step, r, args.head_dim);
    if (row < 0 || column >= args.head_dim) continue;
    const int at = step * (kDecodeStepRows * kDim) + fragment_index(r, column);
    args.state[(first_row + row) * args.head_dim + column] = has_state ? bf16_low(high[at]) + bf16_low(low[at]) : 0.0f;
    if (column == 0) {
      const float sum = record.at<const float>(args.layout.key_sum)[key_sum_index(step, r)];
      args.key_sum[first_row + row] = has_state ? sum : 0.0f;
    }
  }
}

template <int kDim, int kDegree>
void run_decode_fold(const DecodeArgs& args, void* stream) {
  launch(decode_fold_kernel<kDim, kDegree>, "decode_fold_kernel", dim3(args.records * args.splits.divisor),
         kDecodeThreads, sizeof(DecodeFlushShared<kDim>), stream, args);
}

template <int kDim, int kDegree>
void run_decode_import(const DecodeArgs& args, void* stream) {
  launch(decode_import_kernel<kDim, kDegree>, "decode_import_kernel", dim3(args.records * args.splits.divisor),
         kDecodeThreads, 0, stream, args);
}

template <int kDim, int kDegree>
void run_decode_export(const DecodeArgs& args, void* stream) {
  launch(decode_export_kernel<kDim, kDegree>, "decode_export_kernel", dim3(args.records * args.splits.divisor),
         kDecodeThreads, 0, stream, args);
}

}  // namespace power::kernels
