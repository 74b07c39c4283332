#include "train/metrics.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>
#include <string_view>
#include <utility>

#include "core/error.h"
#include "core/file.h"
#include "core/log.h"

namespace power::train {
namespace {

using nlohmann::json;

// The next line of `text` from `position` on, which moves behind it; `complete` where it ends in a line end.
std::string_view next_line(std::string_view text, size_t& position, bool& complete) {
  const size_t end = text.find('\n', position);
  complete = end != std::string_view::npos;
  const std::string_view line = text.substr(position, complete ? end - position : end);
  position = complete ? end + 1 : text.size();
  return line;
}

// A line as an object with an integer step, or null.
json parse_line(std::string_view line) {
  json object = json::parse(line, nullptr, /*allow_exceptions=*/false);
  const bool valid = object.is_object() && object.contains("step") && object["step"].is_number_integer();
  return valid ? std::move(object) : json();
}

}  // namespace

MetricsLog::MetricsLog(const std::filesystem::path& path, int64_t resumed_step) : path_(path) {
  if (std::filesystem::exists(path)) {
    const std::string text = read_file(path);
    std::string kept;
    bool complete = false;
    for (size_t position = 0; position < text.size() && resumed_step > 0;) {
      const std::string_view line = next_line(text, position, complete);
      const json object = parse_line(line);
      if (!complete || object.is_null() || object["step"].get<int64_t>() > resumed_step) continue;
      kept.append(line).append("\n");
    }
    if (kept != text) write_file_atomic(path, kept);
  }
  fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  require(fd_ >= 0, ErrorKind::kRuntime, path.string(), ": cannot be opened for writing: ", std::strerror(errno));
}

MetricsLog::~MetricsLog() {
  flush();
  ::close(fd_);
}

void MetricsLog::append(nlohmann::ordered_json line) {
  const std::chrono::duration<double> time = std::chrono::system_clock::now().time_since_epoch();
  line["time"] = std::round(time.count() * 1e3) / 1e3;
  pending_ += line.dump() + "\n";
  const bool failed = !flush();
  if (failed && !warned_) {
    log_warning(path_.string(), ": cannot be written: ", std::strerror(errno),
                "; the run goes on and writes these lines when there is room");
  }
  warned_ = failed;
}

bool MetricsLog::flush() {
  const off_t before = ::lseek(fd_, 0, SEEK_END);
  size_t done = 0;
  while (done < pending_.size()) {
    const ssize_t written = ::write(fd_, pending_.data() + done, pending_.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) {
      // Half a line would spoil the file; where it cannot be taken back, the rest of it comes next time.
      const int reason = errno;
      if (::ftruncate(fd_, before) != 0) pending_.erase(0, done);
      errno = reason;
      return false;
    }
    done += static_cast<size_t>(written);
  }
  pending_.clear();
  return true;
}

MetricsHistory read_metrics(const std::filesystem::path& path) {
  const std::string text = read_file(path);
  MetricsHistory history;
  int64_t number = 0;
  bool complete = false;
  for (size_t position = 0; position < text.size();) {
    const std::string_view line = next_line(text, position, complete);
    ++number;
    const json object = parse_line(line);
    if (!complete && object.is_null()) break;
    require(!object.is_null(), ErrorKind::kData, path.string(), ":", number,
            ": not a JSON object with a step; repair or remove this line");
    MetricsPoint point{.step = object["step"].get<int64_t>(), .tokens = 0, .loss = 0};
    const json tokens = object.value("tokens", json());
    if (tokens.is_number_integer()) point.tokens = tokens.get<int64_t>();
    for (const auto& [key, points] :
         {std::pair("loss", &history.training), std::pair("val_loss", &history.validation)}) {
      const json loss = object.value(key, json());
      if (!loss.is_number() || !std::isfinite(loss.get<double>())) continue;
      point.loss = loss.get<double>();
      points->push_back(point);
    }
  }
  return history;
}

}  // namespace power::train
