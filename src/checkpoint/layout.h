#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

// Names inside a run folder: RUN/ckpt/step-00001000, RUN/ckpt/best, RUN/ckpt/step-00001000.tmp while it is written.
namespace power::checkpoint {

inline constexpr const char* kCheckpointsFolder = "ckpt";
inline constexpr const char* kTemporarySuffix = ".tmp";
inline constexpr const char* kReplacedSuffix = ".replaced";

// "step-" and at least eight digits.
std::string step_folder_name(int64_t step);
// The step of such a name; nullopt for any other.
std::optional<int64_t> parse_step_folder(std::string_view name);

}  // namespace power::checkpoint
