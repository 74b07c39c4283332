#include "ops/check_argument.h"
#include "ops/decode.h"

// A build without CUDA kernels cannot decode with them.
namespace power::ops {

std::string decode_unsupported(int64_t, int64_t, int64_t) {
  return "this build has no CUDA kernels; build the preset `cuda`";
}

int64_t decode_record_bytes(int64_t head_dim, int64_t degree, int64_t window) {
  fail_argument("decode_cache: ", decode_unsupported(head_dim, degree, window));
}

}  // namespace power::ops
