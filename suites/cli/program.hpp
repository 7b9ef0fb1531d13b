// Running the concord program as a user does. Included by the tests of this folder only.
#pragma once
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <thread>
#include <vector>

namespace cli_test {

namespace fs = std::filesystem;

inline const std::string kProgram = std::string(CONCORD_BINARY_DIR) + "/bin/concord";
inline const std::string kSource = CONCORD_SOURCE_DIR;

struct Outcome {
  int exit = -1;
  std::string output;  // standard output and standard error together
};

// `before`: variables for its environment, NAME=VALUE with a space behind each.
inline Outcome concord(const std::string& arguments, const std::string& before = "") {
  const std::string command = "cd " + kSource + " && " + before + kProgram + " " + arguments + " 2>&1 </dev/null";
  Outcome out;
  FILE* pipe = ::popen(command.c_str(), "r");
  if (!pipe) return out;
  std::array<char, 4096> chunk;
  for (std::size_t n; (n = std::fread(chunk.data(), 1, chunk.size(), pipe)) > 0;) out.output.append(chunk.data(), n);
  const int status = ::pclose(pipe);
  out.exit = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return out;
}

// A command line, the exit code and what must be printed.
struct Row {
  const char* arguments;
  int exit;
  const char* printed;
  friend void PrintTo(const Row& row, std::ostream* out) { *out << "concord " << row.arguments; }
};
inline Outcome expect_row(const Row& row) {
  const Outcome out = concord(row.arguments);
  EXPECT_EQ(out.exit, row.exit) << row.arguments << "\n" << out.output.substr(0, 4000);
  EXPECT_NE(out.output.find(row.printed), std::string::npos) << row.arguments << "\n" << out.output.substr(0, 4000);
  return out;
}

// The worker processes of a running concord, by the device that each was started for.
inline std::map<std::string, std::vector<pid_t>> workers_of(pid_t parent) {
  std::map<std::string, std::vector<pid_t>> out;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const std::string name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    std::ifstream stat(entry.path() / "stat"), line(entry.path() / "cmdline");
    std::string pid, command, state, parent_text, argument;
    stat >> pid >> command >> state >> parent_text;
    if (parent_text != std::to_string(parent)) continue;
    while (std::getline(line, argument, '\0') && argument != "--device") {
    }
    std::getline(line, argument, '\0');
    out[argument].push_back(std::stoi(pid));
  }
  return out;
}
inline int exit_of(pid_t child) {
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

class Scratch : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / ("concord-cli-" + std::to_string(::getpid()));
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  std::string at(const std::string& name) const { return (folder_ / name).string(); }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(at(name), std::ios::binary) << text;
  }
  std::string text_of(const std::string& name) const {
    std::ifstream in(at(name), std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }

  // concord in a process of its own, which a test can interfere with. What it prints goes into the file "log".
  pid_t start(const std::vector<std::string>& arguments) const {
    const pid_t child = ::fork();
    if (child != 0) return child;
    std::vector<const char*> argv{"concord"};
    for (const std::string& a : arguments) argv.push_back(a.c_str());
    argv.push_back(nullptr);
    if (::chdir(kSource.c_str()) != 0 || !std::freopen(at("log").c_str(), "w", stdout) ||
        ::dup2(STDOUT_FILENO, STDERR_FILENO) < 0)
      ::_exit(99);
    ::execv(kProgram.c_str(), const_cast<char**>(argv.data()));
    ::_exit(99);
  }
  // To interfere with a run in its midst, a test waits for what it has done, never for a time.
  void wait_for_lines(const std::string& name, std::size_t lines) const {
    for (int i = 0; i < 6000; ++i) {
      const std::string text = text_of(name);
      if (static_cast<std::size_t>(std::ranges::count(text, '\n')) >= lines) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    FAIL() << name << " has not " << lines << " lines after two minutes:\n" << text_of("log");
  }
  fs::path folder_;
};

}  // namespace cli_test
