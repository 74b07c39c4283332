#include "config/value.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <type_traits>

#include "config/schema.h"
#include "core/str.h"

namespace power::config {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool has_leading_zero(std::string_view text) {
  if (!text.empty() && text.front() == '-') text.remove_prefix(1);
  return text.size() > 1 && text[0] == '0' && is_digit(text[1]);
}

template <class Number>
std::optional<Number> parse_whole(std::string_view text) {
  if (has_leading_zero(text)) return std::nullopt;
  Number value = {};
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (status != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

bool in_range(const Range& range, double value) {
  return (range.above_min ? value > range.min : value >= range.min) &&
         (range.below_max ? value < range.max : value <= range.max);
}

bool is_choice(const Key& key, const std::string& text) {
  return std::find(key.choices.begin(), key.choices.end(), text) != key.choices.end();
}

// Line breaks and other control characters would make the stored file and messages unreadable.
bool has_control_character(const std::string& text) {
  return std::any_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

std::string expected(const Key& key, const std::string& text) {
  const char* hint =
      has_leading_zero(text) && !key.choices.size() ? " (a leading zero is not read as octal or decimal)" : "";
  return str("'", text, "' is not valid", hint, "; use ", allowed_values(key));
}

}  // namespace

std::optional<int64_t> parse_integer(std::string_view text) { return parse_whole<int64_t>(text); }

std::optional<double> parse_number(std::string_view text) {
  const auto value = parse_whole<double>(text);
  return value && std::isfinite(*value) ? value : std::nullopt;
}

std::optional<bool> parse_boolean(std::string_view text) {
  if (text == "true" || text == "True") return true;
  if (text == "false" || text == "False") return false;
  return std::nullopt;
}

std::optional<std::vector<std::string>> parse_list(std::string_view text) {
  text = trim(text);
  const bool opens = !text.empty() && text.front() == '[', closes = !text.empty() && text.back() == ']';
  if (opens != closes || (opens && text.size() < 2)) return std::nullopt;
  if (opens) text = text.substr(1, text.size() - 2);
  std::vector<std::string> entries;
  while (true) {
    const size_t comma = text.find(',');
    const std::string_view entry = trim(text.substr(0, comma));
    if (entry.empty()) return std::nullopt;
    entries.emplace_back(entry);
    if (comma == std::string_view::npos) return entries;
    text.remove_prefix(comma + 1);
  }
}

std::string format_value(double value) {
  // Plain decimals up to a million read better than 6e+05; both are exact.
  std::array<char, 64> text = {};
  const bool plain = value == std::floor(value) && std::abs(value) < 1e15;
  const auto result = plain ? std::to_chars(text.data(), text.data() + text.size(), static_cast<int64_t>(value))
                            : std::to_chars(text.data(), text.data() + text.size(), value);
  return {text.data(), result.ptr};
}

std::string set_value(RunConfig& config, const Key& key, const std::string& text) {
  const auto assign = [&](auto member) -> std::string {
    using Value = std::remove_reference_t<decltype(config.*member)>;
    if constexpr (std::is_same_v<Value, bool>) {
      const auto value = parse_boolean(text);
      if (!value) return expected(key, text);
      config.*member = *value;
    } else if constexpr (std::is_same_v<Value, int64_t> || std::is_same_v<Value, std::optional<int64_t>>) {
      if (std::is_same_v<Value, std::optional<int64_t>> && text == "None") {
        config.*member = Value();
        return "";
      }
      const auto value = parse_integer(text);
      if (!value || !in_range(key.range, static_cast<double>(*value))) return expected(key, text);
      config.*member = *value;
    } else if constexpr (std::is_same_v<Value, double>) {
      const auto value = parse_number(text);
      if (!value || !in_range(key.range, *value)) return expected(key, text);
      config.*member = *value;
    } else if constexpr (std::is_same_v<Value, std::string>) {
      const bool valid = is_choice(key, text) || (key.is_form != nullptr && key.is_form(text));
      if (!valid || has_control_character(text)) return expected(key, text);
      config.*member = text;
    } else {
      const auto entries = parse_list(text);
      if (!entries ||
          !std::all_of(entries->begin(), entries->end(), [&](const auto& e) { return is_choice(key, e); })) {
        return expected(key, text);
      }
      config.*member = *entries;
    }
    return "";
  };
  return std::visit(assign, key.member);
}

std::string get_value(const RunConfig& config, const Key& key) {
  const auto format = [&](auto member) -> std::string {
    const auto& value = config.*member;
    using Value = std::remove_cvref_t<decltype(value)>;
    if constexpr (std::is_same_v<Value, bool>) {
      return value ? "True" : "False";
    } else if constexpr (std::is_same_v<Value, int64_t>) {
      return std::to_string(value);
    } else if constexpr (std::is_same_v<Value, std::optional<int64_t>>) {
      return value ? std::to_string(*value) : "None";
    } else if constexpr (std::is_same_v<Value, double>) {
      return format_value(value);
    } else if constexpr (std::is_same_v<Value, std::string>) {
      return value;
    } else {
      if (value.size() == 1) return value.front();
      std::string text = "[";
      for (size_t i = 0; i < value.size(); ++i) text += (i > 0 ? ", " : "") + value[i];
      return text + "]";
    }
  };
  return std::visit(format, key.member);
}

}  // namespace power::config
