#pragma once

#include <functional>
#include <string>
#include <vector>

#include "kernels/power_attention/decode.h"
#include "tests/kernels/attention_case.h"

// Whole sequences decoded step by step and compared with the double reference over all their tokens.
namespace power::kernels::testing {

struct DecodeCase {
  int batch = 1, kv_heads = 1, group = 1, head_dim = 64, degree = 2, window = 32, splits = 1;
  int tokens = 0;              // of each sequence
  std::vector<int> steps{1};   // new tokens of a step, taken in turn; the last step is shorter where tokens run out
  Gates gates = Gates::kNone;  // kSegments: -inf at random tokens of each sequence and head
  Normalize normalize = Normalize::kSum;
  double scale = 0;      // 0: 1/sqrt(head_dim)
  double magnitude = 1;  // of q and k, times 1/sqrt(head_dim)
  int convert_at = -1;   // after this many tokens the states are exported, checked, and imported into a new cache
  unsigned seed = 1;
  int changed = -1;  // this sequence gets other inputs: the rest must not notice

  std::string name() const;
};

struct DecodeResult {
  Comparison y;
  Comparison state, key_sum;  // where convert_at is set
  std::vector<std::string> failures;
  std::vector<uint16_t> bits;  // y (B,T,HQ,D)
  bool ok() const;
  std::string text() const;
};

using DecodeStep = std::function<void(const DecodeParams&)>;

// Decodes twice and compares everything. `step` runs one step; its parameters differ in query_len only.
DecodeResult run_decode_case(Device& device, const DecodeCase& c, const DecodeStep& step = power_attention_decode,
                             int threads = 1);

}  // namespace power::kernels::testing
