#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace power::train {

// CRC-32C (Castagnoli), as TensorBoard's record files use it.
uint32_t crc32c(std::string_view bytes);

// Writes scalars for TensorBoard: a file of TFRecords, each a protocol buffer Event. Only the fields needed for scalars
// are there, so neither TensorFlow nor protobuf is. A failed write is a warning, never the end of a run.
class TensorBoardWriter {
 public:
  // Opens a new file in `folder`. After a resume TensorBoard is told to drop what earlier files of the folder hold of
  // later steps.
  explicit TensorBoardWriter(const std::filesystem::path& folder, int64_t resumed_step = 0);
  ~TensorBoardWriter();
  TensorBoardWriter(const TensorBoardWriter&) = delete;
  TensorBoardWriter& operator=(const TensorBoardWriter&) = delete;

  void add_scalar(std::string_view tag, int64_t step, double value);
  const std::filesystem::path& path() const { return path_; }

 private:
  void write_event(int64_t step, std::string_view content);

  std::filesystem::path path_;
  int fd_ = -1;
  bool warned_ = false;
};

}  // namespace power::train
