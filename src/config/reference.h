#pragma once

#include <string>

namespace power::config {

// docs/configuration.md: every key with type, default, allowed values and meaning.
std::string reference_markdown();

}  // namespace power::config
