// The manifest reader on arbitrary text: it either refuses it with Error(kData), or names only plain files. The text is
// also wrapped in a right self-hash, so that the fuzzer gets past it.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "checkpoint/manifest.h"
#include "checkpoint/strict_json.h"
#include "core/error.h"
#include "core/file.h"

namespace {

using namespace power;

void parse(std::string_view text) {
  try {
    const checkpoint::Manifest manifest = checkpoint::parse_manifest(text, "fuzz");
    for (const auto& [name, file] : manifest.files) {
      if (!checkpoint::is_plain_name(name) || name.find('/') != std::string::npos || file.bytes < 0) std::abort();
    }
    const checkpoint::Manifest again = checkpoint::parse_manifest(checkpoint::manifest_text(manifest), "again");
    if (again.step != manifest.step || again.files.size() != manifest.files.size()) std::abort();
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kData) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  parse(text);
  nlohmann::json content;
  try {
    content = checkpoint::parse_strict_json(text, "fuzz");
  } catch (const Error&) {
    return 0;
  }
  if (!content.is_object()) return 0;
  content.erase("manifest_xxh3_128");
  content["format"] = "powertrain-checkpoint";
  content["version"] = 1;
  const std::string bare = content.dump();
  content["manifest_xxh3_128"] = hash_bytes(bare.data(), bare.size());
  parse(content.dump());
  return 0;
}
