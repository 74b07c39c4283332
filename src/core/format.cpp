#include "core/format.h"

#include <array>
#include <cmath>
#include <cstdio>

namespace power {
namespace {

// Three significant digits of 1 <= value < 1024.
std::string three_digits(double value) {
  return format_number(value < 9.995 ? "%.2f" : value < 99.95 ? "%.1f" : "%.0f", value);
}

std::string scaled(double value, double base, const std::array<const char*, 5>& units) {
  size_t unit = 0;
  while (std::abs(value) >= base * 0.9995 && unit + 1 < units.size()) {
    value /= base;
    ++unit;
  }
  const bool whole = unit == 0 && value == std::floor(value);
  return (whole ? format_number("%.0f", value) : three_digits(value)) + units[unit];
}

}  // namespace

std::string format_number(const char* format, double value) {
  std::array<char, 64> text = {};
  std::snprintf(text.data(), text.size(), format, value);
  return text.data();
}

std::string format_count(double value, const char* unit) {
  return scaled(value, 1000, {" ", " k", " M", " G", " T"}) + unit;
}

std::string format_amount(double value, const char* noun) {
  return scaled(value, 1000, {" ", "k ", "M ", "G ", "T "}) + noun;
}

std::string format_bytes(double bytes) { return scaled(bytes, 1024, {" B", " KiB", " MiB", " GiB", " TiB"}); }

std::string format_duration(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return "?";
  if (seconds < 59.95) return format_number("%.1fs", seconds);
  std::array<char, 32> text = {};
  const auto whole = static_cast<long long>(std::llround(seconds));
  const long long hours = whole / 3600, minutes = whole / 60 % 60;
  if (hours == 0) {
    std::snprintf(text.data(), text.size(), "%lldm%02llds", minutes, whole % 60);
  } else if (hours < 48) {
    std::snprintf(text.data(), text.size(), "%lldh%02lldm", hours, minutes);
  } else {
    std::snprintf(text.data(), text.size(), "%lldd%02lldh", hours / 24, hours % 24);
  }
  return text.data();
}

}  // namespace power
