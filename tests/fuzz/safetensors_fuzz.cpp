// The safetensors reader on arbitrary bytes: it either refuses them with Error(kData), or every tensor lies inside
// them.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "checkpoint/content_check.h"
#include "checkpoint/safetensors.h"
#include "core/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace power;
  const std::string_view file(reinterpret_cast<const char*>(data), size);
  try {
    checkpoint::SafetensorsHeader header = checkpoint::parse_safetensors(file, "fuzz");
    size_t covered = 0;
    for (const checkpoint::TensorEntry& entry : header.tensors) {
      if (entry.begin != covered || entry.end < entry.begin) std::abort();
      covered = entry.end;
    }
    if (header.data_begin + covered != size) std::abort();
    // What was accepted can be written, and that is accepted too.
    std::string copy = checkpoint::layout_safetensors(header.tensors, header.metadata);
    copy.append(covered, '\0');
    if (checkpoint::parse_safetensors(copy, "copy").tensors.size() != header.tensors.size()) std::abort();
    checkpoint::check_safetensors_content(file, "fuzz");
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kData) std::abort();
  }
  return 0;
}
