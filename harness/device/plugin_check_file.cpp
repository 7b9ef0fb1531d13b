// Checks of the file and its table: nothing here needs a device.
#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <set>

#include "base/text.hpp"
#include "device/plugin_checks.hpp"
#include "device/plugin_symbols.hpp"

namespace concord::plugin_check {
namespace {

constexpr unsigned char kCanary = 0xa5;

bool sanitizer_symbol(const std::string& name) {
  for (const char* prefix : {"__asan_", "__ubsan_", "__tsan_", "__lsan_", "__msan_", "__sanitizer_", "__interceptor_"})
    if (name.starts_with(prefix)) return true;
  return false;
}

// "a, b and 7 more"
std::string some(const std::vector<std::string>& names) {
  std::string text;
  const std::size_t shown = std::min<std::size_t>(names.size(), 4);
  for (std::size_t i = 0; i < shown; ++i) text += (i ? ", " : "") + printable(demangled(names[i]), 120);
  return names.size() > shown ? fmt::format("{} and {} more", text, names.size() - shown) : text;
}

void expect_text(Probe& p, const char* text, const char* what) {
  p.expect(text != nullptr && *text != '\0', fmt::format("the table has no {}", what));
}

}  // namespace

void check_load(Probe& p) {
  if (p.load()) p.note("loaded with every symbol bound at once");
}

void check_table(Probe& p) {
  if (!p.load()) return;
  const concord_backend& t = p.table();
  if (!p.expect(t.struct_size >= CONCORD_BACKEND_SIZE_2_0,
                fmt::format("its table has {} bytes, expected at least {}", t.struct_size, CONCORD_BACKEND_SIZE_2_0)))
    return;
  p.expect(t.abi_major == CONCORD_ABI_MAJOR,
           fmt::format("its table says ABI {}.{}, this program asked for {}.{}", t.abi_major, t.abi_minor,
                       CONCORD_ABI_MAJOR, CONCORD_ABI_MINOR));
  expect_text(p, t.name, "name"), expect_text(p, t.version, "version"), expect_text(p, t.build, "build");
  const std::string name = t.name ? t.name : "";
  p.expect(std::ranges::all_of(
               name, [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-'; }) &&
               name.size() < 32,
           "its name must have at most 31 of the characters a-z, 0-9, - and _");
  const std::pair<const char*, bool> entries[] = {{"device_count", t.device_count},
                                                  {"device_info", t.device_info},
                                                  {"device_open", t.device_open},
                                                  {"device_close", t.device_close},
                                                  {"buffer_create", t.buffer_create},
                                                  {"buffer_destroy", t.buffer_destroy},
                                                  {"upload", t.upload},
                                                  {"download", t.download},
                                                  {"weight_create", t.weight_create},
                                                  {"weight_destroy", t.weight_destroy},
                                                  {"supports", t.supports},
                                                  {"run", t.run},
                                                  {"stream_create", t.stream_create},
                                                  {"stream_destroy", t.stream_destroy},
                                                  {"synchronize", t.synchronize}};
  for (const auto& [entry, there] : entries) p.expect(there, fmt::format("its table has no {}", entry));
  if (!p.failed())
    p.note(fmt::format("{} {}, ABI {}.{}, {}", name, printable(t.version), t.abi_major, t.abi_minor,
                       printable(t.build, 120)));
}

void check_symbols(Probe& p) {
  const auto symbols = dynamic_symbols(p.file());
  if (!symbols) return p.fail(symbols.error().message);
  if (!p.load()) return;
  // dlsym with the plug-in's handle looks into the libraries that it names itself, and not into those that this program
  // happens to have loaded.
  std::vector<std::string> missing;
  for (const std::string& name : symbols->undefined)
    if (!sanitizer_symbol(name) && !::dlsym(p.handle(), name.c_str())) missing.push_back(name);
  p.expect(missing.empty(),
           fmt::format("{} symbols come from no library that it names, and were found by chance in this program: {}",
                       missing.size(), some(missing)));
  if (missing.empty())
    p.note(fmt::format("{} undefined symbols, each in a library that it names", symbols->undefined.size()));
}

void check_exports(Probe& p) {
  const auto symbols = dynamic_symbols(p.file());
  if (!symbols) return p.fail(symbols.error().message);
  std::vector<std::string> others;
  for (const std::string& name : symbols->defined)
    if (name != "concord_backend_entry" && !sanitizer_symbol(name) && name != "_init" && name != "_fini")
      others.push_back(name);
  p.expect(others.size() < symbols->defined.size(), "it exports no concord_backend_entry");
  if (!others.empty())
    p.warn(fmt::format("it exports {} symbols beside the entry, which can bind to another library's: {}", others.size(),
                       some(others)));
  else
    p.note("the entry alone");
}

void check_version(Probe& p) {
  if (!p.load()) return;
  for (const std::uint32_t major : {CONCORD_ABI_MAJOR + 1, CONCORD_ABI_MAJOR - 1, 0u, 0xffffffffu})
    p.refused(fmt::format("concord_backend_entry for ABI {}.0 (NULL is a refusal)", major), {CONCORD_UNSUPPORTED},
              [&](concord_error* err) { return p.entry()(major, 0, err) ? CONCORD_OK : CONCORD_UNSUPPORTED; });
  for (const std::uint32_t minor : {CONCORD_ABI_MINOR + 1, 1000u}) {
    p.at(fmt::format("concord_backend_entry for ABI {}.{}", CONCORD_ABI_MAJOR, minor));
    p.expect(p.entry()(CONCORD_ABI_MAJOR, minor, nullptr) != nullptr,
             fmt::format("it refuses the minor version {} of a host, which it must serve", minor));
  }
  p.note(fmt::format("serves {}.*, refuses other majors with a message", CONCORD_ABI_MAJOR));
}

void check_entry_twice(Probe& p) {
  if (!p.load()) return;
  const std::vector<Found> first = devices_of(p);
  p.at("concord_backend_entry for the second time");
  const concord_backend* again = p.entry()(CONCORD_ABI_MAJOR, CONCORD_ABI_MINOR, nullptr);
  if (!p.expect(again != nullptr, "the second call of the entry gives no table")) return;
  p.expect(again->struct_size == p.table().struct_size && again->run && again->device_info,
           "the second table is not complete");
  p.at("device_count of the second table");
  const std::uint32_t count = again->device_count();
  p.expect(count == first.size(), fmt::format("{} devices at the first call, {} at the second", first.size(), count));
  for (const Found& f : first) {
    concord_device_info info{};
    info.struct_size = sizeof info;
    if (!p.works("device_info of the second table",
                 [&](concord_error* err) { return again->device_info(f.index, &info, err); }))
      continue;
    p.expect(field_text(info.id, sizeof info.id) == f.id, "the second table names its devices differently");
    p.expect((info.available != 0) == f.available, f.id + " is available in one table and not in the other");
  }
}

namespace {

void check_fields(Probe& p, const concord_device_info& info, std::uint32_t index) {
  const auto ends = [&](const char* name, const auto& field) {
    bool terminated = true;
    const std::string text = field_text(field, sizeof field, &terminated);
    p.expect(terminated, fmt::format("device {}: the field {} has no terminator", index, name));
    return text;
  };
  const std::string id = ends("id", info.id), name = ends("name", info.name), why = ends("why", info.why),
                    backend = p.table().name;
  ends("vendor", info.vendor), ends("architecture", info.architecture), ends("driver", info.driver),
      ends("libraries", info.libraries);
  ends("features", info.features);
  p.expect(id == backend || (id.starts_with(backend + ":") && id.size() > backend.size() + 1),
           fmt::format("device {} has the id \"{}\", expected \"{}\" or \"{}:...\"", index, id, backend, backend));
  p.expect(id.find_first_of(" ,\t/") == std::string::npos,
           fmt::format("device {}: an id has no spaces, commas or slashes", index));
  if (info.available == 0)
    return void(p.expect(!why.empty(), fmt::format("{} is not available and does not say why", id)));
  p.expect(!name.empty(), id + " has no name");
  p.expect(info.compute_units > 0, id + " has 0 compute units");
  p.expect(info.memory_bytes > 0, id + " has 0 bytes of memory");
}

}  // namespace

void check_device_info(Probe& p) {
  if (!p.load()) return;
  p.at("device_count");
  const std::uint32_t count = p.table().device_count();
  p.expect(count > 0, "it lists no device: one that cannot run here is listed with available = 0 and a reason");
  if (!p.expect(count <= 1024, fmt::format("it lists {} devices", count))) return;
  std::set<std::string> ids;
  std::string listed;
  for (std::uint32_t i = 0; i < count; ++i) {
    concord_device_info info;
    std::memset(&info, 0x7e, sizeof info);  // what is not written shows as a field without its end
    info.struct_size = sizeof info;
    if (!p.works(fmt::format("device_info {}", i),
                 [&](concord_error* err) { return p.table().device_info(i, &info, err); }))
      continue;
    p.expect(info.struct_size == sizeof info, "device_info changed struct_size, which is the host's");
    check_fields(p, info, i);
    const std::string id = field_text(info.id, sizeof info.id);
    p.expect(ids.insert(id).second, fmt::format("two devices have the id \"{}\"", id));
    listed += fmt::format("{}{}{}", listed.empty() ? "" : ", ", id, info.available ? "" : " (not available)");
  }
  for (const std::uint32_t beyond : {count, 0xffffffffu}) {
    concord_device_info info{};
    info.struct_size = sizeof info;
    p.refused(fmt::format("device_info {} of {}", beyond, count), {CONCORD_INVALID},
              [&](concord_error* err) { return p.table().device_info(beyond, &info, err); });
    concord_device* device = nullptr;
    p.refused(fmt::format("device_open {} of {}", beyond, count), {CONCORD_INVALID},
              [&](concord_error* err) { return p.table().device_open(beyond, nullptr, &device, err); });
  }
  p.note(listed);
}

namespace {

// A struct of which the host knows the first `size` bytes alone; what lies behind must stay as it is.
template <class T>
struct Older {
  explicit Older(std::uint32_t size) : size_(size) {
    bytes_.fill(kCanary);
    std::memset(bytes_.data(), 0, size);
    std::memcpy(bytes_.data(), &size, std::min<std::size_t>(size, sizeof size));
  }
  T* get() { return reinterpret_cast<T*>(bytes_.data()); }
  void judge(Probe& p, const std::string& what) const {
    std::uint32_t size = 0;
    std::memcpy(&size, bytes_.data(), sizeof size);
    p.expect(size == size_, what + ": changed struct_size, which is the host's");
    const auto written =
        std::count_if(bytes_.begin() + size_, bytes_.end(), [](unsigned char c) { return c != kCanary; });
    p.expect(written == 0,
             fmt::format("{}: wrote {} bytes behind the {} that the host's older struct has", what, written, size_));
  }

 private:
  std::uint32_t size_;
  alignas(alignof(std::max_align_t)) std::array<unsigned char, 4 * sizeof(T)> bytes_;
};

}  // namespace

void check_older_host(Probe& p) {
  if (!p.load()) return;
  const std::uint32_t info_sizes[] = {4, 8, offsetof(concord_device_info, name), offsetof(concord_device_info, why),
                                      offsetof(concord_device_info, memory_bytes)};
  for (const std::uint32_t size : info_sizes) {
    Older<concord_device_info> info(size);
    const std::string what = fmt::format("device_info 0 with struct_size {}", size);
    p.call(what, [&](concord_error* err) { return p.table().device_info(0, info.get(), err); });
    info.judge(p, what);
  }
  for (const std::uint32_t size : {4u, 8u, 16u, static_cast<unsigned>(sizeof(concord_error)) - 1}) {
    Older<concord_error> err(size);
    const std::string what = fmt::format("a refusal with concord_error.struct_size {}", size);
    p.at(what);
    concord_device_info info{};
    info.struct_size = sizeof info;
    p.expect(p.table().device_info(0xffffffffu, &info, err.get()) != CONCORD_OK, what + ": accepted");
    p.expect(p.entry()(CONCORD_ABI_MAJOR + 1, 0, err.get()) == nullptr, what + ": accepted");
    err.judge(p, what);
  }
  for (const Found& f : devices_of(p)) {
    if (!f.available) continue;
    Older<concord_open_options> options(4);  // threads is not there: what lies behind is 0xa5a5a5a5 threads
    concord_device* device = nullptr;
    const std::string what = f.id + ": device_open with concord_open_options.struct_size 4";
    if (p.call(what, [&](concord_error* err) { return p.table().device_open(f.index, options.get(), &device, err); }) ==
            CONCORD_OK &&
        device)
      p.table().device_close(device);
    options.judge(p, what);
  }
}

}  // namespace concord::plugin_check
