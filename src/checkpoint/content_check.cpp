#include "checkpoint/content_check.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>

#include "checkpoint/safetensors.h"
#include "checkpoint/strict_json.h"
#include "core/error.h"

namespace power::checkpoint {
namespace {

// IEEE formats: infinite or not a number where all bits of the exponent are set.
template <class Bits>
int64_t first_with_exponent(const void* data, size_t bytes, Bits exponent) {
  // Whole blocks of a fixed size let the compiler use vector instructions; the copy settles alignment.
  constexpr size_t kBlock = 1024;
  const size_t count = bytes / sizeof(Bits);
  const auto* source = static_cast<const unsigned char*>(data);
  std::array<Bits, kBlock> block;
  for (size_t begin = 0; begin < count; begin += kBlock) {
    const size_t length = std::min(kBlock, count - begin);
    if (length < kBlock) block.fill(0);
    std::memcpy(block.data(), source + begin * sizeof(Bits), length * sizeof(Bits));
    Bits found = 0;
    for (size_t i = 0; i < kBlock; ++i) found |= static_cast<Bits>((block[i] & exponent) == exponent);
    if (found == 0) continue;
    for (size_t i = 0; i < length; ++i) {
      if ((block[i] & exponent) == exponent) return static_cast<int64_t>(begin + i);
    }
  }
  return -1;
}

}  // namespace

struct StreamHash::State {
  XXH3_state_t value;
};

StreamHash::StreamHash() : state_(std::make_unique<State>()) { XXH3_128bits_reset(&state_->value); }
StreamHash::~StreamHash() = default;

void StreamHash::update(const void* data, size_t bytes) { XXH3_128bits_update(&state_->value, data, bytes); }

std::string StreamHash::hex() const {
  const XXH128_hash_t hash = XXH3_128bits_digest(&state_->value);
  std::array<char, 33> text = {};
  std::snprintf(text.data(), text.size(), "%016llx%016llx", static_cast<unsigned long long>(hash.high64),
                static_cast<unsigned long long>(hash.low64));
  return text.data();
}

int64_t first_non_finite(std::string_view dtype, const void* data, size_t bytes) {
  if (dtype == "F64") return first_with_exponent<uint64_t>(data, bytes, 0x7ff0000000000000);
  if (dtype == "F32") return first_with_exponent<uint32_t>(data, bytes, 0x7f800000);
  if (dtype == "F16") return first_with_exponent<uint16_t>(data, bytes, 0x7c00);
  if (dtype == "BF16") return first_with_exponent<uint16_t>(data, bytes, 0x7f80);
  if (dtype == "F8_E5M2") return first_with_exponent<uint8_t>(data, bytes, 0x7c);
  if (dtype == "F8_E4M3") return first_with_exponent<uint8_t>(data, bytes, 0x7f);  // has NaN only
  return -1;
}

void check_safetensors_content(std::string_view file, const std::string& source) {
  const SafetensorsHeader header = parse_safetensors(file, source);
  for (const TensorEntry& entry : header.tensors) {
    const std::string_view data = file.substr(header.data_begin + entry.begin, entry.end - entry.begin);
    const int64_t bad = first_non_finite(entry.dtype, data.data(), data.size());
    require(bad < 0, ErrorKind::kData, source, ": tensor '", printable(entry.name), "': element ", bad,
            " is not finite");
    if (entry.dtype == "BOOL") {
      const bool valid = std::all_of(data.begin(), data.end(), [](char c) { return c == 0 || c == 1; });
      require(valid, ErrorKind::kData, source, ": tensor '", printable(entry.name), "': a BOOL is neither 0 nor 1");
    }
  }
}

}  // namespace power::checkpoint
