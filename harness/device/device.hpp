// Plug-ins over the C ABI, as owning C++ objects. Knows no operator's meaning and no model.
#pragma once
#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "abi/concord_backend.h"
#include "base/dtype.hpp"
#include "base/error.hpp"
#include "base/tensor.hpp"

namespace concord {

// One device as its plug-in describes it, available or not.
struct DeviceFacts {
  std::string id;       // "cpu:avx2"
  std::string backend;  // "cpu"
  bool available = false;
  std::string why;      // why it is not available; empty where it is
  std::string name, vendor, architecture, driver, libraries, features;
  std::uint32_t compute_units = 0;
  std::uint64_t memory_bytes = 0;
  std::string plugin;   // path of the shared object
  std::string build;    // the plug-in's version, compiler and arithmetic flags
};

// A plug-in file that could not be used, and why (missing library, other ABI version, no entry symbol).
struct PluginFailure {
  std::string path, why;
};

class Device;

// All plug-ins found in the search path: $CONCORD_BACKEND_PATH (colon-separated) if set, else the program's own folder and
// ../lib/concord beside it. Files are named libconcord_backend_*.so. Plug-ins stay loaded until the process ends.
class Backends {
 public:
  static Backends discover();
  static Backends discover(const std::vector<std::string>& folders);
  // A backend that is part of this program; `table` lives as long as it.
  static Backends builtin(const concord_backend& table);

  const std::vector<DeviceFacts>& devices() const { return devices_; }  // sorted by backend, then the plug-in's own order
  const std::vector<PluginFailure>& failures() const { return failures_; }

  // Opens a device by id ("cpu:avx2"), by bare backend name ("cpu": the plug-in's first available device), or by backend and variant where ids have an
  // index ("cuda:portable" is cuda:0:portable).
  // Errors: device.unknown and device.unavailable (kMissingDevice), device.open. threads 0 means all.
  Result<Device> open(const std::string& id, unsigned threads = 0) const;
  // The id that open() would use, without opening.
  Result<std::string> resolve(const std::string& id) const;

 private:
  struct Plugin {
    const concord_backend* table;
    std::string path;
  };
  void load(const std::string& path);
  void add(const concord_backend& table, const std::string& path);
  Result<std::size_t> find(const std::string& id) const;  // index into devices_
  std::vector<Plugin> plugins_;
  std::vector<DeviceFacts> devices_;
  std::vector<std::pair<std::size_t, std::uint32_t>> slots_;  // per device: plug-in, index
  std::vector<PluginFailure> failures_;
};

// Device memory. Must not outlive its Device.
class Buffer {
 public:
  Buffer() = default;
  Buffer(Buffer&& o) noexcept { *this = std::move(o); }
  Buffer& operator=(Buffer&& o) noexcept;
  ~Buffer();
  concord_buffer* get() const { return buffer_; }
  std::uint64_t size() const { return size_; }  // [bytes]

 private:
  friend class Device;
  const concord_backend* table_ = nullptr;
  concord_device* device_ = nullptr;
  concord_buffer* buffer_ = nullptr;
  std::uint64_t size_ = 0;
};

// A weight matrix prepared for one device. Must not outlive its Device.
class Weight {
 public:
  Weight() = default;
  Weight(Weight&& o) noexcept { *this = std::move(o); }
  Weight& operator=(Weight&& o) noexcept;
  ~Weight();
  concord_weight* get() const { return weight_; }

 private:
  friend class Device;
  const concord_backend* table_ = nullptr;
  concord_device* device_ = nullptr;
  concord_weight* weight_ = nullptr;
};

// A queue of a device's work beside its default stream. Must not outlive its Device.
class Stream {
 public:
  Stream() = default;
  Stream(Stream&& o) noexcept { *this = std::move(o); }
  Stream& operator=(Stream&& o) noexcept;
  ~Stream();
  concord_stream* get() const { return stream_; }

 private:
  friend class Device;
  const concord_backend* table_ = nullptr;
  concord_device* device_ = nullptr;
  concord_stream* stream_ = nullptr;
};

// Page-locked host memory, to which a device copies without anybody's waiting. Must not outlive its Device, and must
// outlive the copies.
class HostBlock {
 public:
  HostBlock() = default;
  HostBlock(HostBlock&& o) noexcept { *this = std::move(o); }
  HostBlock& operator=(HostBlock&& o) noexcept;
  ~HostBlock();
  std::span<std::byte> bytes() const { return bytes_; }

 private:
  friend class Device;
  const concord_backend* table_ = nullptr;
  concord_device* device_ = nullptr;
  std::span<std::byte> bytes_;
};

// Device memory that a device holds now, and held at most since it was opened [bytes].
struct DeviceMemory {
  std::uint64_t now = 0, peak = 0;
};

// How often each kernel ran, by the name its witness gave. Looked up without making a string, for every call.
using KernelCounts = std::map<std::string, std::uint64_t, std::less<>>;

// An open device. Every call of an operator is witnessed: which kernel ran, how often, and whether anything fell back.
// Errors: device.unsupported (kUnsupported, with the plug-in's reason), device.out_of_memory, device.failed, device.invalid_call.
// run() may return before the work is done. What is found out later (an index out of range) is the error of the next synchronize() or download().
class Device {
 public:
  Device(Device&& o) noexcept;
  Device& operator=(Device&& o) noexcept;
  ~Device();

  const DeviceFacts& facts() const { return facts_; }
  unsigned threads() const { return threads_; }

  Result<Buffer> allocate(std::uint64_t bytes);  // zero-filled
  Status upload(const Buffer& to, std::uint64_t offset, std::span<const std::byte> from);
  Status download(const Buffer& from, std::uint64_t offset, std::span<std::byte> to);
  Result<Weight> create_weight(const concord_weight_desc& desc);
  Status supports(const concord_call& call);
  Status run(const concord_call& call);
  // The same with the call's own witness, which may be empty: for whoever judges witnesses itself.
  Status run(const concord_call& call, concord_witness& witness);
  Status synchronize();                      // of the default stream, on which all runs are queued
  Status synchronize(const Stream& stream);

  // Copies beside the work: only where the plug-in has page-locked memory and orders its streams.
  bool copies_beside_work() const;
  bool has_host_memory() const;
  Result<Stream> create_stream();
  Result<HostBlock> allocate_host(std::uint64_t bytes);
  // Returns at once; `to` is a part of a HostBlock and is filled after synchronize(stream).
  Status download_async(const Buffer& from, std::uint64_t offset, std::span<std::byte> to, const Stream& stream);
  // What is queued on `waiting` from now on begins when all that is now on `awaited` has ended.
  Status wait_for_default(const Stream& waiting);   // awaited: the default stream
  Status default_waits_for(const Stream& awaited);  // waiting: the default stream

  bool has_weight_digest() const;
  // The digest of a weight as it lies in device memory (docs/weight-digest.md); empty where the plug-in does not offer it, or not for this weight.
  Result<std::optional<std::array<std::byte, 32>>> weight_digest(const Weight& weight);
  std::optional<DeviceMemory> memory();  // empty where the plug-in does not count, or could not

  // "rmsnorm: cpu avx2 8-lane tree" -> number of calls, over the life of the device.
  const KernelCounts& kernels() const { return kernels_; }
  std::uint64_t fallbacks() const { return fallbacks_; }
  // The weakest determinism class that any call so far declared.
  concord_determinism determinism() const { return determinism_; }

 private:
  friend class Backends;
  Device() = default;
  Status download_on(concord_stream* stream, const Buffer& from, std::uint64_t offset, std::span<std::byte> to);
  Status synchronize_on(concord_stream* stream);
  Status order(concord_stream* waiting, concord_stream* awaited);
  const concord_backend* table_ = nullptr;
  concord_device* device_ = nullptr;
  DeviceFacts facts_;
  unsigned threads_ = 0;
  KernelCounts kernels_;
  std::uint64_t fallbacks_ = 0;
  concord_determinism determinism_ = CONCORD_ALWAYS_IDENTICAL;
};

// An entry that a table has since a later version: NULL where the table ends before it.
template <class F>
F optional_entry(const concord_backend& table, F concord_backend::*entry) {
  const auto end = reinterpret_cast<std::uintptr_t>(&(table.*entry)) + sizeof(F);
  return end - reinterpret_cast<std::uintptr_t>(&table) <= table.struct_size ? table.*entry : nullptr;
}

const char* op_name(std::uint32_t op);        // "rmsnorm"
concord_dtype to_abi(DType dtype);            // F32, F16, BF16, F64, I32, I8
// A contiguous tensor over a whole buffer or a part of it.
concord_tensor tensor_of(DType dtype, std::initializer_list<std::int64_t> dims, const Buffer& buffer, std::uint64_t byte_offset = 0);
concord_call make_call(concord_op op);        // struct_size set, everything else zero, accumulate F32

}  // namespace concord
