#include "bench/operator_shape.h"

#include <algorithm>

#include "core/error.h"

namespace power::bench {
namespace {

// Positive numbers with commas between; `say` says how the whole is written.
std::vector<int64_t> parse_numbers(const std::string& option, const std::string& text, const std::string& say) {
  std::vector<int64_t> numbers;
  for (size_t at = 0; at <= text.size();) {
    const size_t comma = std::min(text.find(',', at), text.size());
    const std::string part = text.substr(at, comma - at);
    require(!part.empty() && part.size() <= 9 && part.find_first_not_of("0123456789") == std::string::npos &&
                std::stoll(part) > 0,
            ErrorKind::kUsage, option, " ", text, ": '", part, "' is no positive number; write ", say);
    numbers.push_back(std::stoll(part));
    at = comma + 1;
  }
  return numbers;
}

}  // namespace

OperatorShape parse_shape(const std::string& text) {
  constexpr const char* kSay =
      "batch, length, heads and, if wanted, query heads per head, head dim, degree: "
      "B,T,H[,R[,D[,P]]]";
  const std::vector<int64_t> numbers = parse_numbers("--shape", text, kSay);
  require(numbers.size() >= 3 && numbers.size() <= 6, ErrorKind::kUsage, "--shape ", text, ": write ", kSay);
  OperatorShape shape{};
  int64_t* const fields[] = {&shape.batch, &shape.len, &shape.heads, &shape.group, &shape.head_dim, &shape.degree};
  for (size_t i = 0; i < numbers.size(); ++i) *fields[i] = numbers[i];
  return shape;
}

std::string to_string(const OperatorShape& s) {
  return str(s.batch, ",", s.len, ",", s.heads, ",", s.group, ",", s.head_dim, ",", s.degree);
}

std::vector<int64_t> parse_contexts(const std::string& text) {
  const std::vector<int64_t> contexts = parse_numbers("--contexts", text, "lengths, as 1024,4096,16384");
  require(std::is_sorted(contexts.begin(), contexts.end(), std::less_equal<>()), ErrorKind::kUsage, "--contexts ", text,
          ": the lengths must rise");
  return contexts;
}

std::vector<OperatorShape> shapes_of_contexts(const OperatorShape& shape, const std::vector<int64_t>& contexts) {
  const int64_t tokens = shape.batch * shape.len;
  std::vector<OperatorShape> shapes;
  for (const int64_t context : contexts) {
    require(tokens % context == 0, ErrorKind::kUsage, "--contexts: ", context, " does not divide the ", tokens,
            " tokens of --shape ", to_string(shape), "; every context is measured on as many tokens");
    shapes.push_back(shape);
    shapes.back().batch = tokens / context;
    shapes.back().len = context;
  }
  return shapes;
}

}  // namespace power::bench
