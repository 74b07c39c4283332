#include "checkpoint/strict_json.h"

#include <set>
#include <vector>

#include "core/error.h"

namespace power::checkpoint {

using nlohmann::json;

json parse_strict_json(std::string_view text, const std::string& source, size_t max_bytes) {
  constexpr int kMaxDepth = 32;
  require(text.size() <= max_bytes, ErrorKind::kData, source, ": ", text.size(), " bytes of JSON, at most ", max_bytes,
          " are read");
  std::vector<std::set<std::string>> keys;  // of the objects that are open
  const auto check = [&](int depth, json::parse_event_t event, json& value) {
    switch (event) {
      case json::parse_event_t::object_start:
        keys.emplace_back();
        [[fallthrough]];
      case json::parse_event_t::array_start:
        require(depth < kMaxDepth, ErrorKind::kData, source, ": nested deeper than ", kMaxDepth);
        break;
      case json::parse_event_t::object_end:
        keys.pop_back();
        break;
      case json::parse_event_t::key:
        require(keys.back().insert(value.get<std::string>()).second, ErrorKind::kData, source, ": key '",
                printable(value.get_ref<const std::string&>()), "' is given twice");
        break;
      default:
        break;
    }
    return true;
  };
  try {
    return json::parse(text, check);
  } catch (const json::exception& error) {
    fail(ErrorKind::kData, source, ": not valid JSON: ", printable(error.what()));
  }
}

std::string printable(std::string_view text) {
  constexpr size_t kMaxLength = 200;
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string result;
  for (const char c : text.substr(0, kMaxLength)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      result += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
    } else {
      result += c;
    }
  }
  if (text.size() > kMaxLength) result += "...";
  return result;
}

}  // namespace power::checkpoint
