#pragma once

#include <cstdint>
#include <string>

// Numbers as people read them.
namespace power {

// printf for one number: format_number("%.4f", 3.14159) is "3.1416".
std::string format_number(const char* format, double value);
// Three significant digits, a space, and k, M, G or T before the unit: 380000 "tok/s" is "380 ktok/s".
std::string format_count(double value, const char* unit);
// The same before a word: 124439808 "parameters" is "124M parameters".
std::string format_amount(double value, const char* noun);
// Powers of 1024: "61.2 GiB".
std::string format_bytes(double bytes);
// "2h13m", "4m05s", "12.3s".
std::string format_duration(double seconds);

}  // namespace power
