// The configuration reader on arbitrary text: it either refuses it with Error(kUsage), or the configuration is valid
// and its stored text reads back as the same. Each line is also read as a value of every key.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "config/load.h"
#include "config/schema.h"
#include "config/value.h"
#include "config/yaml_reader.h"
#include "core/error.h"

namespace {

using namespace power;

void read_document(std::string_view text) {
  try {
    const config::RunConfig config = config::from_yaml(text, "fuzz");
    const std::string stored = config::to_yaml(config);
    if (config::to_yaml(config::from_yaml(stored, "stored")) != stored) std::abort();
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kUsage) std::abort();
  }
}

void read_value(const std::string& text) {
  for (const config::Key& key : config::schema()) {
    config::RunConfig config;
    if (!config::set_value(config, key, text).empty()) continue;
    config::RunConfig again;
    if (!config::set_value(again, key, config::get_value(config, key)).empty()) std::abort();
    if (config::get_value(again, key) != config::get_value(config, key)) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  read_document(text);
  read_value(std::string(text.substr(0, text.find('\n'))));
  return 0;
}
