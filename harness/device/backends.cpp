// Finding and loading plug-ins.
#include <dlfcn.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <set>

#include "base/text.hpp"
#include "device/device.hpp"
#include "device/device_id.hpp"
#include "device/plugin_error.hpp"

namespace concord {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kPrefix = "libconcord_backend_", kSuffix = ".so", kEntry = "concord_backend_entry";

std::vector<std::string> search_path() {
  std::vector<std::string> folders;
  if (const char* set = std::getenv("CONCORD_BACKEND_PATH"); set && *set) {
    std::string_view rest = set;
    while (!rest.empty()) {
      const std::size_t colon = std::min(rest.find(':'), rest.size());
      if (colon > 0) folders.emplace_back(rest.substr(0, colon));
      rest.remove_prefix(std::min(colon + 1, rest.size()));
    }
    return folders;
  }
  std::error_code ec;
  const fs::path program = fs::read_symlink("/proc/self/exe", ec);
  if (ec) return folders;
  folders.push_back(program.parent_path().string());
  folders.push_back((program.parent_path().parent_path() / "lib" / "concord").string());
  return folders;
}

// Plug-in files of one folder in name order; an unreadable or missing folder has none.
std::vector<std::string> plugin_files(const std::string& folder) {
  std::vector<std::string> files;
  std::error_code ec;
  for (fs::directory_iterator it(folder, ec), end; !ec && it != end; it.increment(ec)) {
    const std::string name = it->path().filename().string();
    if (name.starts_with(kPrefix) && name.ends_with(kSuffix)) files.push_back(it->path().string());
  }
  std::sort(files.begin(), files.end());
  return files;
}

// NULL entries, a short table or another version: the reason why a table cannot be used, or empty.
std::string table_fault(const concord_backend* t) {
  if (t->struct_size < CONCORD_BACKEND_SIZE_2_0)  // what came later is optional, entry by entry
    return fmt::format("its table has {} bytes, expected at least {}", t->struct_size, CONCORD_BACKEND_SIZE_2_0);
  if (t->abi_major != CONCORD_ABI_MAJOR)
    return fmt::format("it was built for ABI {}.{}, this program speaks {}.{}", t->abi_major, t->abi_minor,
                       CONCORD_ABI_MAJOR, CONCORD_ABI_MINOR);
  if (!t->name || !*t->name || !t->version || !t->build) return "its table has no name, version or build";
  const bool complete = t->device_count && t->device_info && t->device_open && t->device_close && t->buffer_create &&
                        t->buffer_destroy && t->upload && t->download && t->weight_create && t->weight_destroy &&
                        t->supports && t->run && t->stream_create && t->stream_destroy && t->synchronize;
  return complete ? "" : "its table has an empty entry";
}

// Loads a file and asks for its table. Never unloads: threads and device contexts of a vendor library do not survive
// it.
std::expected<const concord_backend*, std::string> table_of(const std::string& path) {
  // Libraries with an OpenMP pool spin while they wait, by default. Workers run side by side, and a spinning one takes the processor from the one that works: tens of
  // times slower here. Read by the OpenMP runtime when the plug-in brings it in; a value set by the user stands.
  ::setenv("OMP_WAIT_POLICY", "passive", 0);
  void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle) {
    const char* why = dlerror();
    return std::unexpected(why ? why : "dlopen failed");
  }
  const auto entry = reinterpret_cast<concord_backend_entry_fn>(dlsym(handle, kEntry.data()));
  if (!entry) return std::unexpected(fmt::format("it exports no {}", kEntry));
  concord_error err = blank_error();
  const concord_backend* table = entry(CONCORD_ABI_MAJOR, CONCORD_ABI_MINOR, &err);
  if (!table) {
    const std::string said = bounded_text(err.message, sizeof err.message);
    return std::unexpected(fmt::format("it refused ABI {}.{} of this program: {}", CONCORD_ABI_MAJOR, CONCORD_ABI_MINOR,
                                       said.empty() ? "no reason given" : said));
  }
  if (std::string fault = table_fault(table); !fault.empty()) return std::unexpected(std::move(fault));
  return table;
}

DeviceFacts facts_of(const concord_device_info& info, const concord_backend& table, const std::string& path) {
  DeviceFacts f;
  const auto text = [](const auto& field) { return bounded_text(field, sizeof field); };
  f.id = text(info.id), f.backend = table.name, f.available = info.available != 0, f.why = text(info.why);
  f.name = text(info.name), f.vendor = text(info.vendor), f.architecture = text(info.architecture),
  f.driver = text(info.driver);
  f.libraries = text(info.libraries), f.features = text(info.features);
  f.compute_units = info.compute_units, f.memory_bytes = info.memory_bytes;
  f.plugin = path, f.build = fmt::format("{} {}, {}", table.name, table.version, table.build);
  return f;
}

}  // namespace

Backends Backends::discover() { return discover(search_path()); }

Backends Backends::discover(const std::vector<std::string>& folders) {
  Backends found;
  std::set<std::string>
      seen;  // one file once, whatever the folder order; an earlier folder wins over a later one of equal name
  for (const std::string& folder : folders)
    for (const std::string& path : plugin_files(folder))
      if (seen.insert(fs::path(path).filename().string()).second) found.load(path);
  std::vector<std::size_t> order(found.devices_.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return found.devices_[a].backend < found.devices_[b].backend; });
  Backends sorted;
  for (std::size_t i : order) {
    sorted.devices_.push_back(std::move(found.devices_[i]));
    sorted.slots_.push_back(found.slots_[i]);
  }
  sorted.plugins_ = std::move(found.plugins_), sorted.failures_ = std::move(found.failures_);
  return sorted;
}

void Backends::load(const std::string& path) {
  auto table = table_of(path);
  if (!table) {
    failures_.push_back({path, table.error()});
    return;
  }
  for (const Plugin& other : plugins_) {
    if (std::string_view(other.table->name) != (*table)->name) continue;
    failures_.push_back({path, fmt::format("backend '{}' is already provided by {}", (*table)->name, other.path)});
    return;
  }
  add(**table, path);
}

Backends Backends::builtin(const concord_backend& table) {
  Backends b;
  b.add(table, "built in");
  return b;
}

void Backends::add(const concord_backend& table, const std::string& path) {
  plugins_.push_back({&table, path});
  const std::uint32_t count = table.device_count();
  for (std::uint32_t i = 0; i < count; ++i) {
    concord_device_info info{};
    info.struct_size = sizeof info;
    concord_error err = blank_error();
    const concord_status status = table.device_info(i, &info, &err);
    if (status != CONCORD_OK) {
      failures_.push_back({path, fmt::format("device {}: {}", i, bounded_text(err.message, sizeof err.message))});
      continue;
    }
    devices_.push_back(facts_of(info, table, path));
    slots_.emplace_back(plugins_.size() - 1, i);
  }
}

Result<std::size_t> Backends::find(const std::string& name) const {
  std::vector<std::string> ids;
  for (const DeviceFacts& d : devices_) ids.push_back(d.id);
  const std::string id = expand_device_id(name, ids);
  const DeviceFacts* refused = nullptr;
  for (std::size_t i = 0; i < devices_.size(); ++i) {
    const DeviceFacts& d = devices_[i];
    if (d.id != id && d.backend != id) continue;
    if (d.available) return i;
    if (!refused || d.id == id) refused = &d;
    if (d.id == id) break;
  }
  if (refused)
    return fail(ErrorKind::kMissingDevice, "device.unavailable",
                fmt::format("device {} is not available: {}", refused->id, refused->why));
  return fail(
      ErrorKind::kMissingDevice, "device.unknown",
      fmt::format("no device '{}'; found: {}", printable(name), ids.empty() ? "none" : fmt::to_string(fmt::join(ids, ", "))));
}

Result<std::string> Backends::resolve(const std::string& id) const {
  CONCORD_TRY(const std::size_t index, find(id));
  return devices_[index].id;
}

Result<Device> Backends::open(const std::string& id, unsigned threads) const {
  CONCORD_TRY(const std::size_t index, find(id));
  const auto& [plugin, slot] = slots_[index];
  Device device;
  concord_open_options options{sizeof(concord_open_options), threads};
  concord_error err = blank_error();
  const concord_backend* table = plugins_[plugin].table;
  const concord_status status = table->device_open(slot, &options, &device.device_, &err);
  if (status != CONCORD_OK || !device.device_) {
    device.device_ = nullptr;
    const std::string said = bounded_text(err.message, sizeof err.message);
    return fail(
        ErrorKind::kInternal, "device.open",
        fmt::format("device {} could not be opened: {}", devices_[index].id, said.empty() ? "no reason given" : said));
  }
  device.table_ = table, device.facts_ = devices_[index];
  device.threads_ = threads ? threads : devices_[index].compute_units;
  return device;
}

}  // namespace concord
