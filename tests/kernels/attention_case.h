#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "kernels/power_attention/power_attention.h"

// One comparison of the kernels with the double reference, on whatever device holds the memory: the GPU, or the host
// when the kernels run on the emulator.
namespace power::kernels::testing {

class Device {
 public:
  virtual ~Device() = default;
  virtual void* allocate(size_t bytes) = 0;
  virtual void release(void* pointer) = 0;
  virtual void upload(void* to, const void* from, size_t bytes) = 0;
  virtual void download(void* to, const void* from, size_t bytes) = 0;  // waits for the kernels
};

enum class Gates { kNone, kMild, kStrong, kClosed, kSegments };

struct AttentionCase {
  int batch = 1, query_len = 0, key_len = 0, kv_heads = 1, group = 1, head_dim = 64, degree = 2;
  DataType dtype = DataType::kBFloat16;
  Gates gates = Gates::kNone;
  Normalize normalize = Normalize::kSum;
  double scale = 0;        // 0: 1/sqrt(head_dim)
  double magnitude = 1;    // of q and k, times 1/sqrt(head_dim)
  bool fused_qkv = false;  // q, k and v are slices of one (B,T,(HQ+2H)*D) tensor; needs query_len == key_len
  int chunk = 0;           // keys of a chunk; 0: quadratic form
  bool initial = false;    // with an initial state, and its gradient
  bool final = false;      // with a final state, and a gradient of it
  bool saved = false;      // the forward pass keeps the states for the backward pass
  bool dl = false;         // with a gradient of l (float32)
  unsigned seed = 1;

  std::string name() const;  // B2_TQ7_TK63_H1_R2_D64_p2_segments_layer: enough to run it again
};

struct Comparison {
  std::string tensor;
  double error = 0, tolerance = 0;  // whole tensor
  double worst_part = 0;            // one (batch, head) or one tile of 64 tokens of it, bound 3 * tolerance
  std::string worst_where;
  bool ok() const { return error <= tolerance && worst_part <= 3 * tolerance; }  // false for NaN
};

struct CaseResult {
  std::vector<Comparison> comparisons;
  std::vector<std::string> failures;  // guard bytes, repeat runs
  bool ok() const;
  std::string text() const;
};

// Runs forward and backward twice and compares everything. threads: host threads of the reference.
CaseResult run_attention_case(Device& device, const AttentionCase& c, int threads = 1);

}  // namespace power::kernels::testing
