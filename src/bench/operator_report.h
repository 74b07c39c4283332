#pragma once

#include <iosfwd>
#include <nlohmann/json.hpp>
#include <string>

#include "bench/operator_bench.h"

// What `bench operator` shows of its measurements.
namespace power::bench {

void print_head(const OperatorBenchResult& result, const OperatorBenchOptions& options, std::ostream& out);
// The attentions of one shape, with their times by kernel where these were measured.
void print_shape(const std::vector<OperatorBenchRow>& rows, const OperatorBenchResult& result, std::ostream& out);

nlohmann::ordered_json bench_json(const OperatorBenchResult& result, const OperatorBenchOptions& options);

// Tokens/s of both passes over the context, a line for each attention; throws Error(kRuntime) where nothing could be
// timed.
std::string context_chart(const OperatorBenchResult& result);

}  // namespace power::bench
