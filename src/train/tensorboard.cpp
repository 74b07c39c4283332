#include "train/tensorboard.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "core/error.h"
#include "core/log.h"

namespace power::train {
namespace {

// Protocol buffer wire format: a field is its number and wire type as a varint, then the value.
enum WireType : uint64_t { kVarint = 0, kFixed64 = 1, kLengthDelimited = 2, kFixed32 = 5 };

template <class T>
std::string little_endian(T value) {
  std::string bytes(sizeof(T), '\0');
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

std::string varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(value | 0x80);
  return bytes + static_cast<char>(value);
}

std::string field(uint64_t number, WireType type, const std::string& payload) {
  return varint(number << 3 | type) + (type == kLengthDelimited ? varint(payload.size()) : "") + payload;
}

double now_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

constexpr std::array<uint32_t, 256> make_crc_table() {
  std::array<uint32_t, 256> table = {};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t remainder = i;
    for (int bit = 0; bit < 8; ++bit) remainder = (remainder >> 1) ^ ((remainder & 1) != 0 ? 0x82f63b78u : 0u);
    table[i] = remainder;
  }
  return table;
}

// TFRecord stores checksums rotated and offset, so that a checksum of data that holds checksums stays useful.
uint32_t masked_crc(std::string_view bytes) {
  const uint32_t crc = crc32c(bytes);
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  static constexpr std::array<uint32_t, 256> kTable = make_crc_table();
  uint32_t crc = ~0u;
  for (const char c : bytes) crc = kTable[(crc ^ static_cast<unsigned char>(c)) & 255] ^ (crc >> 8);
  return ~crc;
}

TensorBoardWriter::TensorBoardWriter(const std::filesystem::path& folder, int64_t resumed_step) {
  std::filesystem::create_directories(folder);
  std::array<char, 256> host = {};
  ::gethostname(host.data(), host.size() - 1);
  // TensorBoard reads the files of a folder in the order of their names: seconds first, then what keeps them apart.
  const auto seconds = static_cast<int64_t>(now_seconds());
  for (int n = 0; fd_ < 0; ++n) {
    path_ = folder / str("events.out.tfevents.", seconds, ".", host.data(), ".", ::getpid(), ".", n);
    fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0644);
    require(fd_ >= 0 || errno == EEXIST, ErrorKind::kRuntime, path_.string(),
            ": cannot be created: ", std::strerror(errno));
  }
  // Event { string file_version = 3; SessionLog session_log = 7 { SessionStatus status = 1; } }
  write_event(0, field(3, kLengthDelimited, "brain.Event:2"));
  if (resumed_step > 0) {
    constexpr uint64_t kStart = 1;
    write_event(resumed_step + 1, field(7, kLengthDelimited, field(1, kVarint, varint(kStart))));
  }
}

TensorBoardWriter::~TensorBoardWriter() { ::close(fd_); }

void TensorBoardWriter::add_scalar(std::string_view tag, int64_t step, double value) {
  // Event { Summary summary = 5 { repeated Value value = 1 { string tag = 1; float simple_value = 2; } } }
  const std::string scalar =
      field(1, kLengthDelimited, std::string(tag)) + field(2, kFixed32, little_endian(static_cast<float>(value)));
  write_event(step, field(5, kLengthDelimited, field(1, kLengthDelimited, scalar)));
}

void TensorBoardWriter::write_event(int64_t step, std::string_view content) {
  // Event { double wall_time = 1; int64 step = 2; ... }
  std::string event = field(1, kFixed64, little_endian(now_seconds()));
  if (step != 0) event += field(2, kVarint, varint(static_cast<uint64_t>(step)));
  event += content;
  const std::string length = little_endian(static_cast<uint64_t>(event.size()));
  const std::string record = length + little_endian(masked_crc(length)) + event + little_endian(masked_crc(event));
  const off_t before = ::lseek(fd_, 0, SEEK_END);
  const bool failed = ::write(fd_, record.data(), record.size()) != static_cast<ssize_t>(record.size());
  if (failed && !warned_) {
    log_warning(path_.string(), ": cannot be written: ", std::strerror(errno), "; TensorBoard will miss these points");
  }
  // Part of a record would make TensorBoard give up on the rest of the file.
  if (failed && ::ftruncate(fd_, before) != 0) return;
  warned_ = failed;
}

}  // namespace power::train
