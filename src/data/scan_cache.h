#pragma once

#include <cstdint>
#include <optional>

#include "data/shard.h"

// The largest id of shards scanned before, kept in $XDG_CACHE_HOME/powertrain or ~/.cache/powertrain, never beside the
// data. An entry counts for a file of the same path, size and modification time. Where no cache can be kept, nothing
// is said: the file is scanned again.
namespace power::data {

std::optional<int64_t> cached_largest_id(const Shard& shard);
void remember_largest_id(const Shard& shard, int64_t largest_id);

}  // namespace power::data
