// A save that is killed, or that finds the disk full.
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <fstream>
#include <random>
#include <set>
#include <thread>

#include "checkpoint/checkpoint.h"
#include "core/error.h"
#include "core/file.h"
#include "tests/checkpoint/example.h"
#include "tests/support/temp_folder.h"

namespace power::checkpoint {
namespace {

namespace fs = std::filesystem;

// Hundreds of saves with their flushes: in memory where there is such a file system.
fs::path quick_folder() { return fs::is_directory("/dev/shm") ? fs::path("/dev/shm") : fs::temp_directory_path(); }

// Runs `action` in a forked child; its result (a problem, or nothing) comes back through a pipe.
std::string in_child(const std::function<std::string()>& action) {
  std::array<int, 2> ends = {};
  EXPECT_EQ(::pipe(ends.data()), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(ends[0]);
    std::string problem;
    try {
      problem = action();
    } catch (const std::exception& error) {
      problem = str("threw: ", error.what());
    }
    const ssize_t written = ::write(ends[1], problem.data(), problem.size());
    ::_exit(written == static_cast<ssize_t>(problem.size()) ? 0 : 1);
  }
  ::close(ends[1]);
  std::string problem;
  std::array<char, 4096> buffer;
  for (ssize_t got = 0; (got = ::read(ends[0], buffer.data(), buffer.size())) > 0;) {
    problem.append(buffer.data(), static_cast<size_t>(got));
  }
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? problem : str("child ended with status ", status);
}

// The system calls that change files; between two of them a kill leaves the same behind.
const std::set<int64_t> kChanges = {
#ifdef SYS_open  // not on every architecture
    SYS_open,   SYS_rename, SYS_mkdir, SYS_rmdir, SYS_unlink,
#endif
    SYS_openat, SYS_write,  SYS_fsync, SYS_close, SYS_renameat, SYS_renameat2, SYS_mkdirat, SYS_unlinkat};

struct Trace {
  bool finished = false;
  std::vector<int64_t> calls;  // numbers of the system calls in kChanges, as they were entered
};

// Runs `action` in a forked child and kills it with SIGKILL before the `limit`-th system call of kChanges.
Trace run_until(const std::function<void()>& action, size_t limit) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
    ::raise(SIGSTOP);
    try {
      action();
      ::_exit(0);
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s\n", error.what());
      ::_exit(1);
    }
  }
  Trace trace;
  int status = 0;
  ::waitpid(child, &status, 0);
  ::ptrace(PTRACE_SETOPTIONS, child, nullptr, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
  for (;;) {
    ::ptrace(PTRACE_SYSCALL, child, nullptr, nullptr);
    ::waitpid(child, &status, 0);
    if (WIFEXITED(status)) {
      EXPECT_EQ(WEXITSTATUS(status), 0);
      trace.finished = true;
      return trace;
    }
    struct __ptrace_syscall_info info = {};
    ::ptrace(PTRACE_GET_SYSCALL_INFO, child, sizeof(info), &info);
    if (info.op != PTRACE_SYSCALL_INFO_ENTRY || !kChanges.contains(static_cast<int64_t>(info.entry.nr))) continue;
    if (trace.calls.size() == limit) break;
    trace.calls.push_back(static_cast<int64_t>(info.entry.nr));
  }
  ::kill(child, SIGKILL);
  ::waitpid(child, &status, 0);
  return trace;
}

bool can_trace() {
  return in_child([] {
           const pid_t child = ::fork();
           if (child == 0) ::_exit(::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) == 0 ? 0 : 1);
           int status = 0;
           ::waitpid(child, &status, 0);
           return std::string(status == 0 ? "" : "forbidden");
         })
      .empty();
}

bool has_temporary(const fs::path& run) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(run / "ckpt", error)) {
    if (entry.path().extension() == ".tmp") return true;
  }
  return false;
}

// Kills `action` at every system call in turn, each time in a run prepared anew, and collects the steps that the run
// then resumes from (-1: it has no checkpoint).
std::multiset<int64_t> kill_everywhere(const std::function<void(const fs::path&)>& prepare,
                                       const std::function<void(const fs::path&)>& action, bool* saw_temporary) {
  std::multiset<int64_t> steps;
  bool finished = false;
  for (size_t limit = 0; !finished; ++limit) {
    SCOPED_TRACE(str("killed before call ", limit));
    const test::TempFolder run(quick_folder());
    prepare(run.path());
    finished = run_until([&] { action(run.path()); }, limit).finished;
    *saw_temporary = *saw_temporary || has_temporary(run.path());
    const auto found = resolve(run.path(), [](const Found& f) { ADD_FAILURE() << "skipped: " << f.problem; });
    steps.insert(found ? Reader(*found).step() : -1);
    EXPECT_TRUE(!found || is_example(Reader(*found)));
    // The next save works and clears what is left.
    save(run.path(), example_contents(7));
    EXPECT_FALSE(has_temporary(run.path()));
    if (::testing::Test::HasFailure()) break;
  }
  return steps;
}

TEST(Crash, KilledAtEverySystemCallOfASave) {
  if (!can_trace()) GTEST_SKIP() << "ptrace is forbidden here";
  at::set_num_threads(1);
  bool saw_temporary = false;
  const auto save_step = [](int64_t step) {
    return [step](const fs::path& run) { save(run, example_contents(step)); };
  };
  // The first save of a run, a save beside another, and a save over one of the same name.
  auto steps = kill_everywhere([](const fs::path&) {}, save_step(6), &saw_temporary);
  EXPECT_GT(steps.count(-1), 20u);
  EXPECT_GT(steps.count(6), 1u);
  EXPECT_EQ(steps.size(), steps.count(-1) + steps.count(6));
  steps = kill_everywhere(save_step(5), save_step(6), &saw_temporary);
  EXPECT_GT(steps.count(5), 20u);
  EXPECT_GT(steps.count(6), 1u);
  EXPECT_EQ(steps.size(), steps.count(5) + steps.count(6));
  const auto save_best = [](int64_t step) {
    return [step](const fs::path& run) { save(run, example_contents(step), "best"); };
  };
  steps = kill_everywhere(save_best(5), save_best(6), &saw_temporary);
  EXPECT_GT(steps.count(5), 20u);
  EXPECT_GT(steps.count(6), 1u);
  EXPECT_EQ(steps.size(), steps.count(5) + steps.count(6));
  EXPECT_TRUE(saw_temporary);
}

TEST(Crash, KilledAtEverySystemCallOfARotation) {
  if (!can_trace()) GTEST_SKIP() << "ptrace is forbidden here";
  at::set_num_threads(1);
  bool saw_temporary = false;
  const auto prepare = [](const fs::path& run) {
    for (const int64_t step : {1, 2, 3}) save(run, example_contents(step));
  };
  const auto steps = kill_everywhere(
      prepare, [](const fs::path& run) { rotate(run, 1); }, &saw_temporary);
  EXPECT_EQ(steps.count(3), steps.size());
  EXPECT_TRUE(saw_temporary);
}

// What a power cut needs: every file, the manifest and the folder are flushed before the rename, the parent after it.
TEST(Crash, EverythingIsFlushedBeforeTheRename) {
  if (!can_trace()) GTEST_SKIP() << "ptrace is forbidden here";
  at::set_num_threads(1);
  const test::TempFolder run;
  save(run.path(), example_contents(5));
  const Contents contents = example_contents(6);
  const Trace trace = run_until([&] { save(run.path(), contents); }, SIZE_MAX);
  std::string order;  // w write, s fsync, r rename
  for (const int64_t call : trace.calls) {
    if (call == SYS_write && !order.ends_with('w')) order += 'w';
    if (call == SYS_fsync) order += 's';
#ifdef SYS_rename
    if (call == SYS_rename) order += 'r';
#endif
    if (call == SYS_renameat || call == SYS_renameat2) order += 'r';
  }
  EXPECT_EQ(order,
            "ws"
            "ws"
            "ws"
            "ws"   // four files
            "ws"   // the manifest
            "s"    // the folder
            "r"    // to its final name
            "s");  // the parent
}

TEST(Crash, KilledAtRandomTimesTheRunAlwaysLoads) {
  at::set_num_threads(1);
  const test::TempFolder run(quick_folder());
  constexpr int64_t kRows = 20'000;  // about 1 MB a checkpoint
  int64_t step = 1;
  save(run.path(), example_contents(step, kRows));
  const auto start = std::chrono::steady_clock::now();
  ASSERT_EQ(in_child([&] {
              save(run.path(), example_contents(step, kRows));
              rotate(run.path(), 2);
              return std::string();
            }),
            "");
  const double round_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::mt19937 random(20261121);
  std::uniform_real_distribution<double> delay(0, 4 * round_seconds);
  for (int round = 0; round < 40; ++round) {
    const pid_t child = ::fork();
    if (child == 0) {
      try {
        for (int64_t next = step + 1;; ++next) {
          save(run.path(), example_contents(next, kRows));
          rotate(run.path(), 2);
        }
      } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        ::_exit(1);
      }
    }
    std::this_thread::sleep_for(std::chrono::duration<double>(delay(random)));
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the child failed by itself";
    const auto found = resolve(run.path(), [](const Found& f) { ADD_FAILURE() << "skipped: " << f.problem; });
    ASSERT_TRUE(found.has_value());
    const Reader reader(*found);
    ASSERT_TRUE(is_example(reader, kRows));
    ASSERT_GE(reader.step(), step) << "the run went back";
    step = reader.step();
  }
  EXPECT_GT(step, 5);  // saves did happen in between
}

// A save that fails for want of space says so, leaves no trace, and the next one works.
std::string save_where_space_ends(const fs::path& run, const std::string& reason) {
  save(run, example_contents(1));
  try {
    save(run, example_contents(2, 100'000));  // 5.6 MB
    return "a checkpoint of 5.6 MB was saved where only 2 MB fit";
  } catch (const Error& error) {
    const std::string message = error.what();
    if (error.kind() != ErrorKind::kRuntime || message.find(reason) == std::string::npos ||
        message.find("step-00000002") == std::string::npos || message.find("free space") == std::string::npos) {
      return "wrong error: " + message;
    }
  }
  if (fs::exists(run / "ckpt/step-00000002") || has_temporary(run)) return "the failed save left something";
  save(run, example_contents(3));
  const auto found = resolve(run);
  return found && Reader(*found).step() == 3 && list(run, true).size() == 2 ? "" : "the next save is not there";
}

TEST(DiskFull, OnASmallFileSystem) {
  const test::TempFolder folder;
  at::set_num_threads(1);
  const std::string problem = in_child([&]() -> std::string {
    const uid_t user = ::getuid();
    const gid_t group = ::getgid();
    if (::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return str("no: unshare: ", std::strerror(errno));
    std::ofstream("/proc/self/uid_map") << "0 " << user << " 1\n";
    std::ofstream("/proc/self/setgroups") << "deny\n";
    std::ofstream("/proc/self/gid_map") << "0 " << group << " 1\n";
    if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("tmpfs", folder.path().c_str(), "tmpfs", 0, "size=2m") != 0) {
      return str("no: mount: ", std::strerror(errno));
    }
    return save_where_space_ends(folder / "run", "No space left on device");
  });
  if (problem.starts_with("no: ")) GTEST_SKIP() << "no file system of our own here: " << problem;
  EXPECT_EQ(problem, "");
}

TEST(DiskFull, AtTheSizeLimitOfAFile) {
  const test::TempFolder folder;
  at::set_num_threads(1);
  EXPECT_EQ(in_child([&] {
              ::signal(SIGXFSZ, SIG_IGN);
              const struct rlimit limit = {2 << 20, 2 << 20};
              if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return std::string("setrlimit failed");
              return save_where_space_ends(folder / "run", "File too large");
            }),
            "");
}

}  // namespace
}  // namespace power::checkpoint
