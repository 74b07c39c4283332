#include "checkpoint/safetensors.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <nlohmann/json.hpp>
#include <unordered_set>
#include <utility>

#include "checkpoint/strict_json.h"
#include "core/error.h"

namespace power::checkpoint {
namespace {

using nlohmann::json;

constexpr size_t kLengthBytes = 8;
constexpr size_t kMaxHeaderBytes = 100'000'000;  // the limit of the reference implementation
constexpr size_t kMaxDimensions = 16;
constexpr size_t kAlignment = 64;

// Builds the entries straight from the parser's events, so that a hostile header costs no more memory than its own
// size: { "__metadata__": {string: string}, NAME: {"dtype": string, "shape": [n, ...], "data_offsets": [begin, end]},
// ... }
class HeaderBuilder : public nlohmann::json_sax<json> {
 public:
  explicit HeaderBuilder(const std::string& source) : source_(source) {}

  SafetensorsHeader take() { return std::move(header_); }

  bool start_object(size_t) override {
    if (level_ == Level::kOutside) {
      level_ = Level::kTop;
    } else if (level_ == Level::kTop) {
      level_ = name_ == "__metadata__" ? Level::kMetadata : Level::kEntry;
      entry_ = {};
      entry_.name = name_;
      have_ = {};
    } else {
      reject("an object where a value is expected");
    }
    return true;
  }

  bool key(string_t& text) override {
    if (level_ == Level::kTop) {
      if (!names_.insert(text).second) reject("it comes twice", text);
      for (const char c : text) {
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) reject("control character in the name", text);
      }
      name_ = text;
    } else if (level_ == Level::kMetadata) {
      if (!header_.metadata.emplace(text, "").second) reject("metadata key '" + printable(text) + "' comes twice");
      key_ = text;
    } else {
      field_ = text == "dtype" ? kDtype : text == "shape" ? kShape : text == "data_offsets" ? kOffsets : kFieldCount;
      if (field_ == kFieldCount) reject("unknown field '" + printable(text) + "'");
      if (std::exchange(have_[field_], true)) reject("field '" + printable(text) + "' comes twice");
    }
    return true;
  }

  bool string(string_t& text) override {
    if (level_ == Level::kMetadata) {
      header_.metadata[key_] = text;
    } else if (level_ == Level::kEntry && field_ == kDtype && !in_array_) {
      entry_.dtype = text;
    } else {
      reject("a string where none is expected");
    }
    return true;
  }

  bool start_array(size_t) override {
    if (level_ != Level::kEntry || field_ == kDtype || in_array_) reject("a list where none is expected");
    in_array_ = true;
    numbers_.clear();
    return true;
  }

  bool number_unsigned(number_unsigned_t number) override {
    if (!in_array_) reject("a number where none is expected");
    if (numbers_.size() == kMaxDimensions) reject(str("a list of more than ", kMaxDimensions, " numbers"));
    if (number > INT64_MAX) reject(str("the number ", number, " is too large"));
    numbers_.push_back(static_cast<int64_t>(number));
    return true;
  }

  bool end_array() override {
    in_array_ = false;
    if (field_ == kShape) {
      entry_.shape = numbers_;
    } else {
      if (numbers_.size() != 2 || numbers_[0] > numbers_[1]) reject("data_offsets is not [begin, end]");
      entry_.begin = static_cast<size_t>(numbers_[0]);
      entry_.end = static_cast<size_t>(numbers_[1]);
    }
    return true;
  }

  bool end_object() override {
    if (level_ == Level::kTop) {
      level_ = Level::kOutside;
      return true;
    }
    if (level_ == Level::kEntry) {
      for (const bool have : have_) {
        if (!have) reject("dtype, shape or data_offsets is missing");
      }
      header_.tensors.push_back(std::move(entry_));
    }
    level_ = Level::kTop;
    return true;
  }

  bool null() override { reject("null where a value is expected"); }
  bool boolean(bool) override { reject("true or false where a value is expected"); }
  bool number_integer(number_integer_t number) override { reject(str("the negative number ", number)); }
  bool number_float(number_float_t, const string_t& text) override { reject("the number " + printable(text)); }
  bool binary(binary_t&) override { reject("binary data"); }
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception& error) override {
    fail(ErrorKind::kData, source_, ": the header is not valid JSON at byte ", position, ": ", printable(error.what()));
  }

 private:
  enum class Level { kOutside, kTop, kMetadata, kEntry };
  enum Field { kDtype, kShape, kOffsets, kFieldCount };

  [[noreturn]] void reject(const std::string& problem) const { reject(problem, name_); }
  [[noreturn]] void reject(const std::string& problem, const std::string& name) const {
    fail(ErrorKind::kData, source_, ": header entry '", printable(name), "': ", problem);
  }

  std::string source_;
  SafetensorsHeader header_;
  std::unordered_set<std::string> names_;
  Level level_ = Level::kOutside;
  std::string name_;  // the entry being read
  std::string key_;   // in __metadata__
  TensorEntry entry_;
  Field field_ = kDtype;
  std::array<bool, kFieldCount> have_ = {};
  bool in_array_ = false;
  std::vector<int64_t> numbers_;
};

// Bytes of a tensor of this dtype and shape; nullopt where they pass what a file can hold.
std::optional<size_t> span_bytes(const TensorEntry& entry, size_t element) {
  size_t bytes = element;
  bool empty = false;
  for (const int64_t extent : entry.shape) {
    empty = empty || extent == 0;
    // An extent of 0 does not excuse the others: LibTorch multiplies them too.
    const auto factor = static_cast<size_t>(std::max<int64_t>(extent, 1));
    if (__builtin_mul_overflow(bytes, factor, &bytes) || bytes > INT64_MAX) return std::nullopt;
  }
  return empty ? 0 : bytes;
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

}  // namespace

std::optional<size_t> dtype_bytes(std::string_view dtype) {
  static const std::map<std::string_view, size_t> kBytes = {
      {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E5M2", 1}, {"F8_E4M3", 1}, {"I16", 2}, {"U16", 2}, {"F16", 2},
      {"BF16", 2}, {"I32", 4}, {"U32", 4}, {"F32", 4},     {"I64", 8},     {"U64", 8}, {"F64", 8}};
  const auto found = kBytes.find(dtype);
  return found == kBytes.end() ? std::nullopt : std::optional(found->second);
}

SafetensorsHeader parse_safetensors(std::string_view file, const std::string& source) {
  require(file.size() >= kLengthBytes, ErrorKind::kData, source, ": ", file.size(),
          " bytes, too short for a safetensors file");
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, file.data(), kLengthBytes);
  require(header_bytes <= kMaxHeaderBytes, ErrorKind::kData, source, ": says its header has ", header_bytes,
          " bytes, at most ", kMaxHeaderBytes, " are allowed");
  require(header_bytes <= file.size() - kLengthBytes, ErrorKind::kData, source, ": says its header has ", header_bytes,
          " bytes, but the file holds ", file.size(), "; it is truncated or not a safetensors file");
  const std::string_view text = file.substr(kLengthBytes, header_bytes);
  require(text.starts_with('{'), ErrorKind::kData, source, ": the header does not begin with '{'");

  HeaderBuilder builder(source);
  json::sax_parse(text.begin(), text.end(), &builder);
  SafetensorsHeader header = builder.take();
  header.data_begin = kLengthBytes + header_bytes;

  std::stable_sort(header.tensors.begin(), header.tensors.end(), [](const TensorEntry& a, const TensorEntry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  size_t covered = 0;
  for (const TensorEntry& entry : header.tensors) {
    const std::string where = str(source, ": tensor '", printable(entry.name), "'");
    const std::optional<size_t> element = dtype_bytes(entry.dtype);
    require(element.has_value(), ErrorKind::kData, where, ": unknown dtype '", printable(entry.dtype), "'");
    const std::optional<size_t> bytes = span_bytes(entry, *element);
    require(bytes.has_value(), ErrorKind::kData, where, ": shape ", shape_text(entry.shape), " is too large");
    require(*bytes == entry.end - entry.begin, ErrorKind::kData, where, ": ", entry.dtype, " ", shape_text(entry.shape),
            " takes ", *bytes, " bytes, its data_offsets span ", entry.end - entry.begin);
    require(entry.begin >= covered, ErrorKind::kData, where, ": its data overlaps another tensor's at byte ",
            entry.begin);
    require(entry.begin == covered, ErrorKind::kData, where, ": bytes ", covered, " to ", entry.begin,
            " before it belong to no tensor");
    covered = entry.end;
  }
  const size_t data_bytes = file.size() - header.data_begin;
  require(covered == data_bytes, ErrorKind::kData, source, ": its tensors take ", covered, " bytes, the file holds ",
          data_bytes, " bytes of data; ", covered > data_bytes ? "it is truncated" : "something was appended");
  return header;
}

std::string layout_safetensors(std::vector<TensorEntry>& tensors, const std::map<std::string, std::string>& metadata) {
  std::stable_sort(tensors.begin(), tensors.end(), [](const TensorEntry& a, const TensorEntry& b) {
    return dtype_bytes(a.dtype).value() > dtype_bytes(b.dtype).value();
  });
  json header = json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  size_t offset = 0;
  for (TensorEntry& entry : tensors) {
    entry.begin = offset;
    const std::optional<size_t> bytes = span_bytes(entry, dtype_bytes(entry.dtype).value());
    require(bytes.has_value() && entry.name != "__metadata__" && !header.contains(entry.name), ErrorKind::kRuntime,
            "tensor '", entry.name, "' cannot be stored: name taken, or too large");
    entry.end = offset += *bytes;
    header[entry.name] = {{"dtype", entry.dtype}, {"shape", entry.shape}, {"data_offsets", {entry.begin, entry.end}}};
  }
  std::string text = header.dump();
  text.resize((kLengthBytes + text.size() + kAlignment - 1) / kAlignment * kAlignment - kLengthBytes, ' ');
  const uint64_t length = text.size();
  std::string bytes(kLengthBytes, '\0');
  std::memcpy(bytes.data(), &length, kLengthBytes);
  return bytes + text;
}

}  // namespace power::checkpoint
