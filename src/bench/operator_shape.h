#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace power::bench {

struct OperatorShape {
  int64_t batch, len, heads, group = 1, head_dim = 64, degree = 2;
};

// Parses "B,T,H[,R[,D[,P]]]". Throws Error(kUsage).
OperatorShape parse_shape(const std::string& text);
std::string to_string(const OperatorShape& shape);

// The shape's tokens in sequences of each of these lengths. Throws Error(kUsage) for a length that does not divide
// them.
std::vector<OperatorShape> shapes_of_contexts(const OperatorShape& shape, const std::vector<int64_t>& contexts);
// Parses "1024,4096,16384": rising. Throws Error(kUsage).
std::vector<int64_t> parse_contexts(const std::string& text);

}  // namespace power::bench
