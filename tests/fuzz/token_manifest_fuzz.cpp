// The manifest of token files on arbitrary text: refused with Error(kData), or written and read again the same.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "core/error.h"
#include "data/manifest.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace power;
  try {
    const std::string text(reinterpret_cast<const char*>(data), size);
    const data::Manifest manifest = data::parse_manifest(text, "fuzz");
    for (const data::ManifestEntry& file : manifest.files) {
      if (file.name.find('/') != std::string::npos || file.name == ".." || file.tokens < 0) std::abort();
    }
    const std::string stored = data::format_manifest(manifest);
    if (data::format_manifest(data::parse_manifest(stored, "stored")) != stored) std::abort();
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kData) std::abort();
  }
  return 0;
}
