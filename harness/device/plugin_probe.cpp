#include "device/plugin_probe.hpp"

#include <dlfcn.h>
#include <malloc.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "abi/concord_validate.hpp"
#include "base/text.hpp"

namespace concord::plugin_check {
namespace {

std::string joined(const std::vector<std::string>& lines) {
  constexpr std::size_t kShown = 3;
  std::string text;
  for (std::size_t i = 0; i < std::min(kShown, lines.size()); ++i) text += (i ? "; " : "") + lines[i];
  if (lines.size() > kShown) text += fmt::format("; and {} more", lines.size() - kShown);
  return text;
}

}  // namespace

const char* status_name(concord_status s) {
  constexpr const char* kNames[] = {"OK", "UNSUPPORTED", "INVALID", "OUT_OF_MEMORY", "DEVICE_ERROR", "INTERNAL"};
  return static_cast<unsigned>(s) < std::size(kNames) ? kNames[s] : "a status that the ABI does not have";
}

std::string field_text(const char* field, std::size_t size, bool* ends) {
  const char* end = std::find(field, field + size, '\0');
  if (ends) *ends = end != field + size;
  return printable(std::string_view(field, static_cast<std::size_t>(end - field)), 600);
}

void Probe::at(const std::string& what) {
  if (std::uncaught_exceptions() == 0)
    where_ = what;  // what is tidied up behind a plug-in's exception is not where it came from
  fmt::print(out_, "at: {}\n", what);
  std::fflush(out_);
}

bool Probe::expect(bool held, const std::string& otherwise) {
  if (!held) failures_.push_back(otherwise);
  return held;
}

PluginCheckResult Probe::result() const {
  PluginCheckResult r;
  if (!failures_.empty())
    r.verdict = CheckVerdict::kFail, r.detail = joined(failures_);
  else if (!skipped_.empty())
    r.verdict = CheckVerdict::kSkipped, r.detail = skipped_, r.no_device = no_device_;
  else if (!warnings_.empty())
    r.verdict = CheckVerdict::kWarn, r.detail = joined(warnings_);
  else
    r.verdict = CheckVerdict::kOk, r.detail = joined(notes_);
  return r;
}

concord_status Probe::call(const std::string& what, const std::function<concord_status(concord_error*)>& f,
                           std::uint32_t* why, std::string* message) {
  constexpr unsigned char kCanary = 0xa5;
  struct {
    concord_error err;
    std::array<unsigned char, 256> behind;
  } guarded{};
  guarded.behind.fill(kCanary), std::memset(guarded.err.message, 'x', sizeof guarded.err.message);
  guarded.err.struct_size = sizeof guarded.err, guarded.err.message[0] = '\0', guarded.err.why = CONCORD_WHY_NONE;
  at(what);
  const concord_status status = f(&guarded.err);
  expect(std::ranges::all_of(guarded.behind, [](unsigned char c) { return c == kCanary; }),
         what + ": wrote behind concord_error");
  expect(guarded.err.struct_size == sizeof guarded.err,
         what + ": changed struct_size of concord_error, which is the host's");
  expect(static_cast<unsigned>(status) <= CONCORD_INTERNAL,
         fmt::format("{}: status {} is none of the ABI's", what, static_cast<int>(status)));
  bool ends = true;
  const std::string said = field_text(guarded.err.message, sizeof guarded.err.message, &ends);
  if (status != CONCORD_OK) {
    expect(ends, what + ": its error message has no terminator");
    expect(!said.empty(), fmt::format("{}: {} without a message", what, status_name(status)));
    expect(guarded.err.why <= CONCORD_WHY_NOT_IMPLEMENTED,
           fmt::format("{}: reason code {} is none of the ABI's", what, guarded.err.why));
  }
  if (why) *why = guarded.err.why;
  if (message) *message = said;
  return status;
}

void Probe::refused(const std::string& what, const Statuses& allowed,
                    const std::function<concord_status(concord_error*)>& f) {
  std::string wanted;
  for (const concord_status s : allowed) wanted += std::string(wanted.empty() ? "" : " or ") + status_name(s);
  const auto judge = [&](concord_status s, const std::string& how) {
    expect(std::ranges::find(allowed, s) != allowed.end(),
           fmt::format("{}{}: {}, expected {}", what, how, status_name(s), wanted));
  };
  judge(call(what, f), "");
  at(what + ", with err NULL");
  judge(f(nullptr), ", with err NULL");
}

bool Probe::works(const std::string& what, const std::function<concord_status(concord_error*)>& f) {
  std::string message;
  const concord_status s = call(what, f, nullptr, &message);
  return expect(s == CONCORD_OK, fmt::format("{}: {} ({})", what, status_name(s), message));
}

bool Probe::load() {
  if (table_) return true;
  ::setenv("OMP_WAIT_POLICY", "passive", 0);  // as the loader does
  at("dlopen with RTLD_NOW | RTLD_LOCAL");
  handle_ = ::dlopen(file_.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle_) {
    const char* why = ::dlerror();
    fail(why ? why : "dlopen failed without a reason");
    return false;
  }
  entry_ = reinterpret_cast<concord_backend_entry_fn>(::dlsym(handle_, "concord_backend_entry"));
  if (!expect(entry_ != nullptr, "it exports no concord_backend_entry")) return false;
  std::string message;
  call(
      "concord_backend_entry with this program's version",
      [&](concord_error* err) {
        table_ = entry_(CONCORD_ABI_MAJOR, CONCORD_ABI_MINOR, err);
        return table_ ? CONCORD_OK : CONCORD_UNSUPPORTED;
      },
      nullptr, &message);
  return expect(table_ != nullptr,
                fmt::format("it refuses ABI {}.{} of this program: {}", CONCORD_ABI_MAJOR, CONCORD_ABI_MINOR, message));
}

std::vector<Found> devices_of(Probe& p) {
  std::vector<Found> found;
  p.at("device_count");
  const std::uint32_t count = std::min(p.table().device_count(), 1024u);
  for (std::uint32_t i = 0; i < count; ++i) {
    concord_device_info info{};
    info.struct_size = sizeof info;
    if (!p.works(fmt::format("device_info {}", i),
                 [&](concord_error* err) { return p.table().device_info(i, &info, err); }))
      continue;
    found.push_back(
        {i, info.available != 0, field_text(info.id, sizeof info.id), field_text(info.why, sizeof info.why)});
  }
  return found;
}

Opened::Opened(Probe& p, const Found& found) : p_(p), id_(found.id) {
  concord_open_options options{sizeof(concord_open_options), 2};
  const bool opened = p.works(id_ + ": device_open", [&](concord_error* err) {
    return p.table().device_open(found.index, &options, &device_, err);
  });
  if (opened)
    p.expect(device_ != nullptr, id_ + ": device_open succeeded and gave no device");
  else
    device_ = nullptr;
}
Opened::~Opened() { close(); }
void Opened::close() {
  if (!device_) return;
  p_.at(id_ + ": device_close");
  p_.table().device_close(std::exchange(device_, nullptr));
}

void each_device(Probe& p, const std::function<void(Opened&)>& body) {
  std::string others;
  std::size_t opened = 0;
  for (const Found& f : devices_of(p)) {
    if (!f.available) {
      others += fmt::format("{}{}: {}", others.empty() ? "" : "; ", f.id, f.why);
      continue;
    }
    ++opened;
    Opened device(p, f);
    if (device) body(device);
  }
  if (opened == 0 && !p.failed())
    p.skip_without_device(others.empty() ? "it offers no device" : "no device is available: " + others);
}

Memory::Memory(Probe& p, const Opened& d, std::uint64_t bytes) : p_(&p), device_(d.get()), bytes_(bytes) {
  const bool made = p.works(fmt::format("{}: buffer_create of {} bytes", d.id(), bytes),
                            [&](concord_error* err) { return p.table().buffer_create(device_, bytes, &buffer_, err); });
  if (made)
    p.expect(buffer_ != nullptr, d.id() + ": buffer_create succeeded and gave no buffer");
  else
    buffer_ = nullptr;
}
Memory::~Memory() {
  if (!buffer_) return;
  p_->at("buffer_destroy");
  p_->table().buffer_destroy(device_, buffer_);
}
bool Memory::put(std::uint64_t offset, const std::vector<std::byte>& bytes, concord_stream* stream) {
  return p_->works(fmt::format("upload of {} bytes at {}", bytes.size(), offset), [&](concord_error* err) {
    return p_->table().upload(device_, stream, buffer_, offset, bytes.data(), bytes.size(), err);
  });
}
std::vector<std::byte> Memory::take(concord_stream* stream) {
  std::vector<std::byte> bytes(bytes_, std::byte{0x5a});
  p_->works(fmt::format("download of {} bytes", bytes_), [&](concord_error* err) {
    return p_->table().download(device_, stream, buffer_, 0, bytes.data(), bytes_, err);
  });
  p_->works("synchronize", [&](concord_error* err) { return p_->table().synchronize(device_, stream, err); });
  return bytes;
}

namespace {

struct Quantity {
  const char* name;
  std::uint64_t least;  // the smallest leak there is
};
constexpr Quantity kQuantities[] = {
    {"bytes on the heap", 32}, {"bytes mapped", 4096}, {"threads", 1}, {"file descriptors", 1}};
using Usage = std::array<std::uint64_t, std::size(kQuantities)>;

Usage usage_now() {
  Usage u{};
  const struct mallinfo2 heap = ::mallinfo2();
  u[0] = heap.uordblks + heap.hblkhd;
  std::ifstream in("/proc/self/status");
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    std::string key;
    words >> key;
    if (key == "VmSize:") words >> u[1], u[1] *= 1024;
    if (key == "Threads:") words >> u[2];
  }
  std::error_code ignored;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd", ignored)) ++u[3];
  return u;
}

std::uint64_t allowed(std::size_t q) { return kRounds * kQuantities[q].least / 2; }
bool within(const Usage& grown) {
  for (std::size_t q = 0; q < grown.size(); ++q)
    if (grown[q] > allowed(q)) return false;
  return true;
}

}  // namespace

void expect_no_growth(Probe& p, const std::string& what, const std::function<void()>& round) {
  for (int i = 0; i < kWarmUp && !p.failed(); ++i) round();
  Usage least;
  least.fill(std::numeric_limits<std::uint64_t>::max());
  for (int w = 0; !p.failed() && (w < kLeastWindows || (w < kMostWindows && !within(least))); ++w) {
    const Usage before = usage_now();
    for (int i = 0; i < kRounds && !p.failed(); ++i) round();
    const Usage after = usage_now();
    for (std::size_t q = 0; q < least.size(); ++q)
      least[q] = std::min(least[q], after[q] - std::min(after[q], before[q]));
  }
  if (p.failed()) return;
  for (std::size_t q = 0; q < least.size(); ++q)
    p.expect(least[q] <= allowed(q),
             fmt::format("{}: {} {} more in each {} rounds, in every window of {}, allowed {}", what, least[q],
                         kQuantities[q].name, kRounds, kMostWindows, allowed(q)));
}

}  // namespace concord::plugin_check
