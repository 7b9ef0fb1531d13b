// What the checks of a plug-in are written with: findings, guarded calls, devices, and the growth of this process. Used
// by plugin_check_*.cpp alone.
#pragma once
#include <fmt/format.h>

#include <cstdio>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "abi/concord_backend.h"
#include "device/plugin_check.hpp"

namespace concord::plugin_check {

using Statuses = std::vector<concord_status>;

// Collects what one check finds. The last word of at() is what is reported when the process dies.
class Probe {
 public:
  Probe(std::string file, std::FILE* out) : file_(std::move(file)), out_(out) {}
  const std::string& file() const { return file_; }

  void at(const std::string& what);
  const std::string& where() const { return where_; }
  bool expect(bool held, const std::string& otherwise);  // returns `held`
  void fail(const std::string& what) { expect(false, what); }
  void warn(const std::string& what) { warnings_.push_back(what); }
  void note(const std::string& what) { notes_.push_back(what); }
  void skip_without_device(const std::string& why) { skipped_ = why, no_device_ = true; }
  bool failed() const { return !failures_.empty(); }
  PluginCheckResult result() const;

  // f(err) must be refused with one of `allowed`, a message that ends within its field, and nothing written behind
  // *err. Again with err NULL.
  void refused(const std::string& what, const Statuses& allowed,
               const std::function<concord_status(concord_error*)>& f);
  // f(err) must succeed.
  bool works(const std::string& what, const std::function<concord_status(concord_error*)>& f);
  // The state of one call of f, with the rules of *err applied: a status that is no concord_status, a message that is
  // missing or does not end.
  concord_status call(const std::string& what, const std::function<concord_status(concord_error*)>& f,
                      std::uint32_t* why = nullptr, std::string* message = nullptr);

  // Loads the plug-in (once); false and a failure when it cannot be. `handle` is what dlopen gave.
  bool load();
  void* handle() const { return handle_; }
  concord_backend_entry_fn entry() const { return entry_; }
  // The table of this host's version; load() came before.
  const concord_backend& table() const { return *table_; }

 private:
  std::string file_;
  std::FILE* out_;
  std::string where_;
  std::vector<std::string> failures_, warnings_, notes_;
  std::string skipped_;
  bool no_device_ = false;
  void* handle_ = nullptr;
  concord_backend_entry_fn entry_ = nullptr;
  const concord_backend* table_ = nullptr;
};

const char* status_name(concord_status s);  // "INVALID"
// A fixed field of a plug-in; "ends" says whether it has its terminator.
std::string field_text(const char* field, std::size_t size, bool* ends = nullptr);

// What device_info said of one device.
struct Found {
  std::uint32_t index = 0;
  bool available = false;
  std::string id, why;
};
std::vector<Found> devices_of(Probe& p);

// An open device, closed at the end of the scope.
class Opened {
 public:
  Opened(Probe& p, const Found& found);
  ~Opened();
  Opened(const Opened&) = delete;
  Opened& operator=(const Opened&) = delete;
  explicit operator bool() const { return device_ != nullptr; }
  concord_device* get() const { return device_; }
  const std::string& id() const { return id_; }
  void close();

 private:
  Probe& p_;
  std::string id_;
  concord_device* device_ = nullptr;
};
// Every device that says it is available, opened; skips the check when there is none.
void each_device(Probe& p, const std::function<void(Opened&)>& body);

// A buffer of a device, destroyed at the end of the scope. Empty when it could not be made, which is a failure already
// recorded.
class Memory {
 public:
  Memory(Probe& p, const Opened& d, std::uint64_t bytes);
  ~Memory();
  Memory(Memory&& o) noexcept
      : p_(o.p_), device_(o.device_), buffer_(std::exchange(o.buffer_, nullptr)), bytes_(o.bytes_) {}
  Memory& operator=(Memory&&) = delete;
  explicit operator bool() const { return buffer_ != nullptr; }
  concord_buffer* get() const { return buffer_; }
  std::uint64_t size() const { return bytes_; }
  bool put(std::uint64_t offset, const std::vector<std::byte>& bytes, concord_stream* stream = nullptr);
  std::vector<std::byte> take(concord_stream* stream = nullptr);  // all of it, after synchronize

 private:
  Probe* p_;
  concord_device* device_;
  concord_buffer* buffer_ = nullptr;
  std::uint64_t bytes_;
};

// Calls round() kWarmUp times, then in windows of kRounds. Something leaks when even the window that grew least grew by
// more than half of what the smallest possible leak in every round would be: a heap chunk of 32 bytes, a page of 4096,
// a thread, a file descriptor. While it looks like that, more windows are tried: caches of threads fill up late, a leak
// never stops.
inline constexpr int kWarmUp = 5, kRounds = 15, kLeastWindows = 3, kMostWindows = 20;
void expect_no_growth(Probe& p, const std::string& what, const std::function<void()>& round);

}  // namespace concord::plugin_check
