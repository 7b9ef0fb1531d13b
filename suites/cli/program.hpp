// Running the concord program as a user does. Included by the tests of this folder only.
#pragma once
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

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
  fs::path folder_;
};

}  // namespace cli_test
