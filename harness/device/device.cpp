// Operator calls over the C ABI, with what ran counted.
#include "device/device.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "device/plugin_error.hpp"

namespace concord {

concord_error blank_error() {
  concord_error err{};
  err.struct_size = sizeof err;
  return err;
}

std::string bounded_text(const char* text, std::size_t size) {
  return std::string(text, static_cast<std::size_t>(std::find(text, text + size, '\0') - text));
}

namespace {
const char* why_name(std::uint32_t why) {
  constexpr const char* kNames[] = {"",       "dtype",        "shape",     "alignment",
                                    "memory", "architecture", "not built", "not implemented"};
  return why < std::size(kNames) ? kNames[why] : "unknown reason";
}
}  // namespace

Error plugin_error(concord_status status, const concord_error& err, const std::string& what) {
  struct Row {
    ErrorKind kind;
    const char* code;
  };
  const Row row = [&]() -> Row {
    switch (status) {
      case CONCORD_UNSUPPORTED:
        return {ErrorKind::kUnsupported, "device.unsupported"};
      case CONCORD_INVALID:
        return {ErrorKind::kInternal, "device.invalid_call"};
      case CONCORD_OUT_OF_MEMORY:
        return {ErrorKind::kInternal, "device.out_of_memory"};
      default:
        return {ErrorKind::kInternal, "device.failed"};
    }
  }();
  const std::string said = bounded_text(err.message, sizeof err.message), why = why_name(err.why);
  return Error{
      row.kind,
      row.code,
      fmt::format("{}: {}{}", what, said.empty() ? fmt::format("status {} without a message", int(status)) : said,
                  why.empty() ? "" : " (" + why + ")"),
      {},
      {}};
}

Buffer& Buffer::operator=(Buffer&& o) noexcept {
  if (this == &o) return *this;
  if (buffer_) table_->buffer_destroy(device_, buffer_);
  table_ = o.table_, device_ = o.device_;
  buffer_ = std::exchange(o.buffer_, nullptr), size_ = std::exchange(o.size_, 0);
  return *this;
}
Buffer::~Buffer() {
  if (buffer_) table_->buffer_destroy(device_, buffer_);
}

Weight& Weight::operator=(Weight&& o) noexcept {
  if (this == &o) return *this;
  if (weight_) table_->weight_destroy(device_, weight_);
  table_ = o.table_, device_ = o.device_, weight_ = std::exchange(o.weight_, nullptr);
  return *this;
}
Weight::~Weight() {
  if (weight_) table_->weight_destroy(device_, weight_);
}

Stream& Stream::operator=(Stream&& o) noexcept {
  if (this == &o) return *this;
  if (stream_) table_->stream_destroy(device_, stream_);
  table_ = o.table_, device_ = o.device_, stream_ = std::exchange(o.stream_, nullptr);
  return *this;
}
Stream::~Stream() {
  if (stream_) table_->stream_destroy(device_, stream_);
}

HostBlock& HostBlock::operator=(HostBlock&& o) noexcept {
  if (this == &o) return *this;
  if (bytes_.data()) table_->host_destroy(device_, bytes_.data());
  table_ = o.table_, device_ = o.device_, bytes_ = std::exchange(o.bytes_, {});
  return *this;
}
HostBlock::~HostBlock() {
  if (bytes_.data()) table_->host_destroy(device_, bytes_.data());
}

Device::Device(Device&& o) noexcept { *this = std::move(o); }
Device& Device::operator=(Device&& o) noexcept {
  if (this == &o) return *this;
  if (device_) table_->device_close(device_);
  table_ = o.table_, device_ = std::exchange(o.device_, nullptr);
  facts_ = std::move(o.facts_), threads_ = o.threads_, kernels_ = std::move(o.kernels_);
  fallbacks_ = o.fallbacks_, determinism_ = o.determinism_;
  return *this;
}
Device::~Device() {
  if (device_) table_->device_close(device_);
}

Result<Buffer> Device::allocate(std::uint64_t bytes) {
  concord_error err = blank_error();
  Buffer buffer;
  const concord_status status = table_->buffer_create(device_, bytes, &buffer.buffer_, &err);
  if (status != CONCORD_OK) {
    buffer.buffer_ = nullptr;
    return std::unexpected(plugin_error(status, err, fmt::format("{}: allocating {} bytes", facts_.id, bytes)));
  }
  buffer.table_ = table_, buffer.device_ = device_, buffer.size_ = bytes;
  return buffer;
}

Status Device::upload(const Buffer& to, std::uint64_t offset, std::span<const std::byte> from) {
  concord_error err = blank_error();
  const concord_status status = table_->upload(device_, nullptr, to.get(), offset, from.data(), from.size(), &err);
  if (status != CONCORD_OK) return std::unexpected(plugin_error(status, err, facts_.id));
  return {};
}

Status Device::download(const Buffer& from, std::uint64_t offset, std::span<std::byte> to) {
  return download_on(nullptr, from, offset, to);
}

Status Device::download_on(concord_stream* stream, const Buffer& from, std::uint64_t offset, std::span<std::byte> to) {
  concord_error err = blank_error();
  const concord_status status = table_->download(device_, stream, from.get(), offset, to.data(), to.size(), &err);
  if (status != CONCORD_OK) return std::unexpected(plugin_error(status, err, facts_.id));
  return {};
}

Result<Weight> Device::create_weight(const concord_weight_desc& desc) {
  concord_error err = blank_error();
  Weight weight;
  const concord_status status = table_->weight_create(device_, &desc, &weight.weight_, &err);
  if (status != CONCORD_OK) {
    weight.weight_ = nullptr;
    return std::unexpected(
        plugin_error(status, err, fmt::format("{}: weight [{}, {}]", facts_.id, desc.rows, desc.cols)));
  }
  weight.table_ = table_, weight.device_ = device_;
  return weight;
}

namespace {
// A plug-in of an older minor version would call an operator that it has never heard of malformed.
Status check_known(const concord_backend& table, const std::string& id, std::uint32_t op) {
  if (op < operators_of(table) || op >= CONCORD_OP_COUNT) return {};
  return fail(ErrorKind::kUnsupported, "device.unsupported",
              fmt::format("{}: {} came with ABI 2.1; the plug-in speaks {}.{} (not implemented)", id, op_name(op),
                          table.abi_major, table.abi_minor));
}
}  // namespace

Status Device::supports(const concord_call& call) {
  CONCORD_CHECK(check_known(*table_, facts_.id, call.op));
  concord_error err = blank_error();
  const concord_status status = table_->supports(device_, &call, &err);
  if (status != CONCORD_OK) return std::unexpected(plugin_error(status, err, facts_.id));
  return {};
}

Status Device::run(const concord_call& call) {
  concord_witness witness{};
  CONCORD_CHECK(run(call, witness));
  if (witness.kernel[0] != '\0') return {};
  return fail(ErrorKind::kInternal, "device.failed",
              fmt::format("{}: {} left no witness of what ran", facts_.id, op_name(call.op)));
}

Status Device::run(const concord_call& call, concord_witness& witness) {
  CONCORD_CHECK(check_known(*table_, facts_.id, call.op));
  concord_error err = blank_error();
  witness = {};
  witness.struct_size = sizeof witness;
  const concord_status status = table_->run(device_, nullptr, &call, &witness, &err);
  if (status != CONCORD_OK) return std::unexpected(plugin_error(status, err, facts_.id));
  witness.kernel[sizeof witness.kernel - 1] = '\0';
  const std::string_view kernel(witness.kernel);
  const auto counted = kernels_.find(kernel);
  if (counted != kernels_.end())
    ++counted->second;
  else if (!kernel.empty())
    kernels_.emplace(kernel, 1);
  fallbacks_ = std::max(fallbacks_, witness.fallbacks);
  determinism_ = std::max(determinism_, static_cast<concord_determinism>(
                                            std::min<std::uint32_t>(witness.determinism, CONCORD_RUN_TO_RUN_VARYING)));
  return {};
}

Status Device::synchronize() { return synchronize_on(nullptr); }
Status Device::synchronize(const Stream& stream) { return synchronize_on(stream.get()); }

Status Device::synchronize_on(concord_stream* stream) {
  concord_error err = blank_error();
  const concord_status status = table_->synchronize(device_, stream, &err);
  if (status != CONCORD_OK) return std::unexpected(plugin_error(status, err, facts_.id));
  return {};
}

bool Device::has_host_memory() const {
  return optional_entry(*table_, &concord_backend::host_create) && optional_entry(*table_, &concord_backend::host_destroy);
}

bool Device::copies_beside_work() const {
  return has_host_memory() && optional_entry(*table_, &concord_backend::stream_wait);
}

Result<Stream> Device::create_stream() {
  concord_error err = blank_error();
  Stream stream;
  const concord_status status = table_->stream_create(device_, &stream.stream_, &err);
  if (status != CONCORD_OK) {
    stream.stream_ = nullptr;
    return std::unexpected(plugin_error(status, err, facts_.id + ": creating a stream"));
  }
  stream.table_ = table_, stream.device_ = device_;
  return stream;
}

Result<HostBlock> Device::allocate_host(std::uint64_t bytes) {
  if (!has_host_memory())
    return fail(ErrorKind::kUnsupported, "device.unsupported", facts_.id + " has no page-locked host memory");
  concord_error err = blank_error();
  void* host = nullptr;
  const concord_status status = table_->host_create(device_, bytes, &host, &err);
  const std::string what = fmt::format("{}: allocating {} bytes of page-locked host memory", facts_.id, bytes);
  if (status != CONCORD_OK) return std::unexpected(plugin_error(status, err, what));
  if (!host) return fail(ErrorKind::kInternal, "device.failed", what + " succeeded and gave none");
  HostBlock block;
  block.table_ = table_, block.device_ = device_, block.bytes_ = {static_cast<std::byte*>(host), bytes};
  return block;
}

Status Device::download_async(const Buffer& from, std::uint64_t offset, std::span<std::byte> to, const Stream& stream) {
  return download_on(stream.get(), from, offset, to);
}

Status Device::order(concord_stream* waiting, concord_stream* awaited) {
  const auto stream_wait = optional_entry(*table_, &concord_backend::stream_wait);
  if (!stream_wait) return fail(ErrorKind::kUnsupported, "device.unsupported", facts_.id + " does not order its streams");
  concord_error err = blank_error();
  const concord_status status = stream_wait(device_, waiting, awaited, &err);
  if (status != CONCORD_OK) return std::unexpected(plugin_error(status, err, facts_.id));
  return {};
}
Status Device::wait_for_default(const Stream& waiting) { return order(waiting.get(), nullptr); }
Status Device::default_waits_for(const Stream& awaited) { return order(nullptr, awaited.get()); }

bool Device::has_weight_digest() const { return optional_entry(*table_, &concord_backend::weight_digest) != nullptr; }

Result<std::optional<std::array<std::byte, 32>>> Device::weight_digest(const Weight& weight) {
  const auto digest_of = optional_entry(*table_, &concord_backend::weight_digest);
  if (!digest_of) return std::nullopt;
  concord_error err = blank_error();
  std::array<std::byte, 32> digest{};
  const concord_status status =
      digest_of(device_, weight.get(), reinterpret_cast<std::uint8_t*>(digest.data()), &err);
  if (status == CONCORD_UNSUPPORTED) return std::nullopt;
  if (status != CONCORD_OK) return std::unexpected(plugin_error(status, err, facts_.id + ": digest of a weight"));
  return digest;
}

std::optional<DeviceMemory> Device::memory() {
  const auto memory_of = optional_entry(*table_, &concord_backend::memory);
  if (!memory_of) return std::nullopt;
  concord_error err = blank_error();
  concord_memory memory{};
  memory.struct_size = sizeof memory;
  if (memory_of(device_, &memory, &err) != CONCORD_OK) return std::nullopt;
  return DeviceMemory{memory.now, memory.peak};
}

const char* op_name(std::uint32_t op) {
  constexpr const char* kNames[CONCORD_OP_COUNT] = {"embedding", "rmsnorm",      "layernorm", "matmul", "rope",
                                                    "kv_append", "attention",    "swiglu",    "gelu",   "add",
                                                    "softmax",   "topk_routing", "argmax",    "sample"};
  return op < CONCORD_OP_COUNT ? kNames[op] : "unknown operator";
}

concord_dtype to_abi(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return CONCORD_F32;
    case DType::kF16:
      return CONCORD_F16;
    case DType::kBF16:
      return CONCORD_BF16;
    case DType::kF64:
      return CONCORD_F64;
    case DType::kI32:
      return CONCORD_I32;
    case DType::kI8:
      return CONCORD_I8;
    default:
      break;
  }
  return CONCORD_U4;  // no counterpart: U4 is never an operand's dtype, so that every plug-in refuses the call
}

concord_tensor tensor_of(DType dtype, std::initializer_list<std::int64_t> dims, const Buffer& buffer,
                         std::uint64_t byte_offset) {
  concord_tensor t{};
  t.struct_size = sizeof t, t.dtype = to_abi(dtype), t.rank = static_cast<std::uint32_t>(dims.size());
  std::copy_n(dims.begin(), std::min<std::size_t>(dims.size(), CONCORD_MAX_RANK), t.dims);
  t.buffer = buffer.get(), t.byte_offset = byte_offset;
  return t;
}

concord_call make_call(concord_op op) {
  concord_call call{};
  call.struct_size = sizeof call, call.op = op, call.accumulate = CONCORD_F32;
  return call;
}

}  // namespace concord
