// Checks of the entries that a table may have since ABI 2.1: page-locked memory, ordered streams, digests, memory in
// use. What is not offered is said and passes.
#include <algorithm>
#include <cstring>

#include "abi/concord_validate.hpp"
#include "device/device.hpp"
#include "device/plugin_calls.hpp"
#include "device/plugin_checks.hpp"
#include "digest/weight_tree.hpp"

namespace concord::plugin_check {
namespace {

constexpr std::uint64_t kBytes = 1 << 16;

std::vector<std::byte> pattern(std::size_t n, unsigned salt) {
  std::vector<std::byte> bytes(n);
  for (std::size_t i = 0; i < n; ++i) bytes[i] = static_cast<std::byte>((i * 197 + salt * 31 + (i >> 8)) & 0xff);
  return bytes;
}

// body(device, entry) for each device of a table that has the entry; says so where it has none.
template <class F>
void each_offering(Probe& p, F concord_backend::* entry, const char* name,
                   const std::function<void(Opened&, F)>& body) {
  if (!p.load()) return;
  const F f = optional_entry(p.table(), entry);
  if (!f) return p.note(fmt::format("{} is not offered", name));
  each_device(p, [&](Opened& d) { body(d, f); });
}

bool has_locked_memory(const Probe& p) {
  return optional_entry(p.table(), &concord_backend::host_create) &&
         optional_entry(p.table(), &concord_backend::host_destroy);
}

// Page-locked memory, given back at the end of the scope.
class Locked {
 public:
  Locked(Probe& p, const Opened& d, std::uint64_t bytes) : p_(p), device_(d.get()) {
    const auto create = optional_entry(p.table(), &concord_backend::host_create);
    if (p.works(fmt::format("{}: host_create of {} bytes", d.id(), bytes),
                [&](concord_error* err) { return create(device_, bytes, &host_, err); }))
      p.expect(host_ != nullptr, d.id() + ": host_create succeeded and gave no memory");
  }
  ~Locked() {
    if (host_) optional_entry(p_.table(), &concord_backend::host_destroy)(device_, host_);
  }
  Locked(const Locked&) = delete;
  Locked& operator=(const Locked&) = delete;
  explicit operator bool() const { return host_ != nullptr; }
  std::byte* get() const { return static_cast<std::byte*>(host_); }

 private:
  Probe& p_;
  concord_device* device_;
  void* host_ = nullptr;
};

class Line {  // a stream; without one (UNSUPPORTED) the default stream
 public:
  Line(Probe& p, const Opened& d) : p_(p), device_(d.get()) {
    const concord_status s = p.call(d.id() + ": stream_create", [&](concord_error* err) {
      return p.table().stream_create(device_, &stream_, err);
    });
    p.expect(s == CONCORD_OK || s == CONCORD_UNSUPPORTED, fmt::format("{}: stream_create: {}", d.id(), status_name(s)));
    if (s != CONCORD_OK) stream_ = nullptr;
  }
  ~Line() {
    if (stream_) p_.table().stream_destroy(device_, stream_);
  }
  Line(const Line&) = delete;
  Line& operator=(const Line&) = delete;
  concord_stream* get() const { return stream_; }

 private:
  Probe& p_;
  concord_device* device_;
  concord_stream* stream_ = nullptr;
};

bool synchronized(Probe& p, const Opened& d, concord_stream* s) {
  return p.works(d.id() + ": synchronize", [&](concord_error* err) { return p.table().synchronize(d.get(), s, err); });
}

void check_locked_copies(Probe& p, const Opened& d) {
  Line line(p, d);
  Memory m(p, d, kBytes);
  Locked from(p, d, kBytes), to(p, d, kBytes);
  if (!m || !from || !to) return;
  const auto want = pattern(kBytes, 1);
  std::ranges::copy(want, from.get());
  std::fill_n(to.get(), kBytes, std::byte{0x5a});
  p.works(d.id() + ": upload from page-locked memory", [&](concord_error* err) {
    return p.table().upload(d.get(), line.get(), m.get(), 0, from.get(), kBytes, err);
  });
  p.works(d.id() + ": download into page-locked memory", [&](concord_error* err) {
    return p.table().download(d.get(), line.get(), m.get(), 0, to.get(), kBytes, err);
  });
  if (synchronized(p, d, line.get()))
    p.expect(std::ranges::equal(want, std::span(to.get(), kBytes)),
             d.id() + ": a copy through page-locked memory loses bits");
}

}  // namespace

void check_host_memory(Probe& p) {
  using Create = decltype(concord_backend::host_create);
  if (p.load() && !optional_entry(p.table(), &concord_backend::host_create) !=
                      !optional_entry(p.table(), &concord_backend::host_destroy))
    return p.fail("its table has one of host_create and host_destroy without the other");
  each_offering<Create>(p, &concord_backend::host_create, "host_create", [&](Opened& d, Create create) {
    void* host = nullptr;
    p.refused(d.id() + ": host_create with device NULL", {CONCORD_INVALID},
              [&](concord_error* err) { return create(nullptr, 64, &host, err); });
    p.refused(d.id() + ": host_create with host NULL", {CONCORD_INVALID},
              [&](concord_error* err) { return create(d.get(), 64, nullptr, err); });
    for (const std::uint64_t bytes : {~std::uint64_t{0}, std::uint64_t{1} << 60})
      p.refused(fmt::format("{}: host_create of {} bytes", d.id(), bytes), {CONCORD_OUT_OF_MEMORY},
                [&](concord_error* err) { return create(d.get(), bytes, &host, err); });
    const concord_status none =
        p.call(d.id() + ": host_create of 0 bytes", [&](concord_error* err) { return create(d.get(), 0, &host, err); });
    p.expect(none == CONCORD_OK || none == CONCORD_INVALID || none == CONCORD_OUT_OF_MEMORY,
             fmt::format("{}: host_create of 0 bytes: {}, expected OK, INVALID or OUT_OF_MEMORY", d.id(),
                         status_name(none)));
    const auto destroy = optional_entry(p.table(), &concord_backend::host_destroy);
    if (none == CONCORD_OK) destroy(d.get(), host);
    p.at(d.id() + ": host_destroy of NULL");
    destroy(d.get(), nullptr);
    check_locked_copies(p, d);
    expect_no_growth(p, d.id() + ": host_create and host_destroy",
                     [&] { Locked small(p, d, 100), large(p, d, kBytes); });
  });
}

namespace {

// Copies of four streams after each other, each stream waiting for the one before: what is there at the end is the last
// one's.
void check_chain(Probe& p, const Opened& d, decltype(concord_backend::stream_wait) wait,
                 const std::function<std::byte*(int)>& source) {
  Line a(p, d), b(p, d);
  Memory m(p, d, kBytes);
  if (!m) return;
  concord_stream* const order[] = {nullptr, a.get(), b.get(), nullptr, b.get(), a.get()};
  constexpr int kSteps = std::size(order);
  for (int i = 0; i < kSteps; ++i) std::ranges::copy(pattern(kBytes, static_cast<unsigned>(i)), source(i));
  for (int i = 0; i < kSteps; ++i) {
    if (i > 0)
      p.works(d.id() + ": stream_wait", [&](concord_error* err) { return wait(d.get(), order[i], order[i - 1], err); });
    p.works(d.id() + ": upload on a stream", [&](concord_error* err) {
      return p.table().upload(d.get(), order[i], m.get(), 0, source(i), kBytes, err);
    });
  }
  p.works(d.id() + ": stream_wait of the default stream",
          [&](concord_error* err) { return wait(d.get(), nullptr, order[kSteps - 1], err); });
  p.expect(m.take() == pattern(kBytes, kSteps - 1),
           d.id() + ": copies on streams that wait for each other are out of order");
  for (concord_stream* s : {a.get(), b.get()}) synchronized(p, d, s);
}

// What is copied out on a stream while the default stream overwrites it.
void check_overwrite(Probe& p, const Opened& d, decltype(concord_backend::stream_wait) wait) {
  Line line(p, d);
  Memory m(p, d, kBytes);
  Locked first(p, d, kBytes), second(p, d, kBytes);
  if (!m || !first || !second) return;
  m.put(0, pattern(kBytes, 1));
  const auto copy_out = [&](Locked& to) {
    p.works(d.id() + ": stream_wait for the default stream",
            [&](concord_error* err) { return wait(d.get(), line.get(), nullptr, err); });
    p.works(d.id() + ": download into page-locked memory", [&](concord_error* err) {
      return p.table().download(d.get(), line.get(), m.get(), 0, to.get(), kBytes, err);
    });
    p.works(d.id() + ": stream_wait of the default stream",
            [&](concord_error* err) { return wait(d.get(), nullptr, line.get(), err); });
  };
  copy_out(first);
  m.put(0, pattern(kBytes, 2));
  copy_out(second);
  m.put(0, pattern(kBytes, 3));
  synchronized(p, d, line.get());
  p.expect(std::ranges::equal(pattern(kBytes, 1), std::span(first.get(), kBytes)) &&
               std::ranges::equal(pattern(kBytes, 2), std::span(second.get(), kBytes)),
           d.id() +
               ": a buffer was copied before what it waits for, or overwritten before the copy that the default stream "
               "waits for");
}

}  // namespace

void check_stream_order(Probe& p) {
  using Wait = decltype(concord_backend::stream_wait);
  each_offering<Wait>(p, &concord_backend::stream_wait, "stream_wait", [&](Opened& d, Wait wait) {
    p.refused(d.id() + ": stream_wait with device NULL", {CONCORD_INVALID},
              [&](concord_error* err) { return wait(nullptr, nullptr, nullptr, err); });
    p.works(d.id() + ": stream_wait of the default stream for itself",
            [&](concord_error* err) { return wait(d.get(), nullptr, nullptr, err); });
    std::vector<std::vector<std::byte>> ordinary(6, std::vector<std::byte>(kBytes));
    check_chain(p, d, wait, [&](int i) { return ordinary[static_cast<std::size_t>(i)].data(); });
    if (!has_locked_memory(p)) return;
    Locked memory(p, d, 6 * kBytes);
    if (memory) check_chain(p, d, wait, [&](int i) { return memory.get() + static_cast<std::size_t>(i) * kBytes; });
    check_overwrite(p, d, wait);
  });
}

namespace {

// A weight in one of its forms, as the host holds it.
struct Form {
  std::uint32_t dtype, activation;
  std::int64_t rows, cols;
  bool zeros = false;
};
constexpr Form kForms[] = {{CONCORD_F32, CONCORD_F32, 48, 40},  {CONCORD_F32, CONCORD_F32, 300, 700},
                           {CONCORD_F16, CONCORD_F16, 48, 41},  {CONCORD_BF16, CONCORD_BF16, 33, 200},
                           {CONCORD_F64, CONCORD_F64, 48, 40},  {CONCORD_I8, CONCORD_BF16, 48, 200},
                           {CONCORD_U4, CONCORD_BF16, 48, 200}, {CONCORD_U4, CONCORD_BF16, 48, 200, true}};
constexpr std::uint32_t kGroup = 32;

struct HostWeight {
  explicit HostWeight(const Form& f) : form(f) {
    const auto rows = static_cast<std::size_t>(f.rows), cols = static_cast<std::size_t>(f.cols),
               groups = (cols + kGroup - 1) / kGroup;
    const std::size_t n = rows * cols;
    if (f.dtype == CONCORD_I8 || f.dtype == CONCORD_U4) {
      data = pattern(f.dtype == CONCORD_I8 ? n : rows * ((cols + 1) / 2), 3);
      scales.resize(f.dtype == CONCORD_I8 ? rows * 4 : rows * groups * 2);
      const std::vector<double> values(scales.size() / (f.dtype == CONCORD_I8 ? 4 : 2), 0.25);
      concord_abi::store_f64(f.dtype == CONCORD_I8 ? CONCORD_F32 : CONCORD_F16, values.data(), values.size(),
                             scales.data());
      if (f.zeros) zeros.assign(rows * groups, std::byte{7});
      return;
    }
    std::vector<double> values(n);
    for (std::size_t i = 0; i < n; ++i) values[i] = 0.125 * static_cast<double>(i % 61) - 2;
    data.resize(n * concord_abi::dtype_bytes(f.dtype));
    concord_abi::store_f64(f.dtype, values.data(), n, data.data());
  }
  concord_weight_desc desc() const {
    concord_weight_desc d = weight_of(form.dtype, form.rows, form.cols, data.data());
    d.activation_dtype = form.activation;
    if (!scales.empty()) d.scales = scales.data();
    if (form.dtype == CONCORD_U4) d.group = kGroup;
    if (!zeros.empty()) d.zeros = reinterpret_cast<const std::uint8_t*>(zeros.data());
    return d;
  }
  Sha256 digest() const {
    return weight_tree_digest({form.dtype, static_cast<std::uint64_t>(form.rows), static_cast<std::uint64_t>(form.cols),
                               desc().group, data, scales, zeros});
  }
  Form form;
  std::vector<std::byte> data, scales, zeros;
};

using DigestOf = decltype(concord_backend::weight_digest);

// Empty where the device takes no such weight, or has no digest of it.
std::optional<Sha256> digest_on(Probe& p, const Opened& d, DigestOf digest_of, const HostWeight& w,
                                const std::string& what) {
  const concord_weight_desc desc = w.desc();
  concord_weight* weight = nullptr;
  concord_status s = p.call(what + ": weight_create",
                            [&](concord_error* err) { return p.table().weight_create(d.get(), &desc, &weight, err); });
  if (s == CONCORD_UNSUPPORTED) return {};
  if (!p.expect(s == CONCORD_OK && weight, fmt::format("{}: weight_create: {}", what, status_name(s)))) return {};
  Sha256 digest{};
  s = p.call(what + ": weight_digest", [&](concord_error* err) {
    return digest_of(d.get(), weight, reinterpret_cast<std::uint8_t*>(digest.data()), err);
  });
  p.expect(s == CONCORD_OK || s == CONCORD_UNSUPPORTED, fmt::format("{}: weight_digest: {}", what, status_name(s)));
  p.table().weight_destroy(d.get(), weight);
  if (s != CONCORD_OK) return {};
  return digest;
}

// False where the device has no digest of this form.
bool check_form(Probe& p, const Opened& d, DigestOf digest_of, const Form& form) {
  const std::string what =
      fmt::format("{}: weight {} [{}, {}]", d.id(), concord_abi::dtype_name(form.dtype), form.rows, form.cols);
  HostWeight w(form);
  const auto first = digest_on(p, d, digest_of, w, what), again = digest_on(p, d, digest_of, w, what);
  if (!first || !again) return false;
  p.expect(*first == *again, what + ": two digests of equal weights differ");
  p.expect(*first == w.digest(),
           fmt::format("{}: its digest is {}, by docs/weight-digest.md it is {}", what, hex(*first), hex(w.digest())));
  for (std::vector<std::byte>* part : {&w.data, &w.scales, &w.zeros}) {
    if (part->empty()) continue;
    std::byte& changed = (*part)[part->size() * 3 / 4];
    changed ^= std::byte{1};
    const auto other = digest_on(p, d, digest_of, w, what + " with another bit");
    p.expect(other && *other != *first, what + ": a bit changed and the digest did not");
    changed ^= std::byte{1};
  }
  return true;
}

}  // namespace

void check_weight_digest(Probe& p) {
  each_offering<DigestOf>(p, &concord_backend::weight_digest, "weight_digest", [&](Opened& d, DigestOf digest_of) {
    std::uint8_t digest[32];
    p.refused(d.id() + ": weight_digest with device NULL", {CONCORD_INVALID},
              [&](concord_error* err) { return digest_of(nullptr, nullptr, digest, err); });
    p.refused(d.id() + ": weight_digest with weight NULL", {CONCORD_INVALID},
              [&](concord_error* err) { return digest_of(d.get(), nullptr, digest, err); });
    std::size_t held = 0;
    for (const Form& form : kForms) held += check_form(p, d, digest_of, form);
    p.note(fmt::format("{}: {} of {} forms of a weight", d.id(), held, std::size(kForms)));
  });
}

void check_memory(Probe& p) {
  using MemoryOf = decltype(concord_backend::memory);
  each_offering<MemoryOf>(p, &concord_backend::memory, "memory", [&](Opened& d, MemoryOf memory_of) {
    const auto now = [&] {
      concord_memory m{};
      m.struct_size = sizeof m;
      p.works(d.id() + ": memory", [&](concord_error* err) { return memory_of(d.get(), &m, err); });
      p.expect(m.now <= m.peak, fmt::format("{}: {} bytes in use, more than the peak of {}", d.id(), m.now, m.peak));
      return m;
    };
    p.refused(d.id() + ": memory with device NULL", {CONCORD_INVALID}, [&](concord_error* err) {
      concord_memory m{sizeof m, 0, 0, 0};
      return memory_of(nullptr, &m, err);
    });
    p.refused(d.id() + ": memory with memory NULL", {CONCORD_INVALID},
              [&](concord_error* err) { return memory_of(d.get(), nullptr, err); });
    {
      Memory once(p, d, kBytes);
    }
    const concord_memory before = now();
    concord_memory with{};
    {
      Memory m(p, d, 16 * kBytes);
      with = now();
    }
    const concord_memory after = now();
    p.expect(with.now >= before.now + 16 * kBytes, fmt::format("{}: a buffer of {} bytes moved the memory in use by {}",
                                                               d.id(), 16 * kBytes, with.now - before.now));
    p.expect(after.now == before.now,
             fmt::format("{}: {} bytes in use before a buffer, {} after it", d.id(), before.now, after.now));
    p.expect(after.peak >= with.now,
             fmt::format("{}: the peak of {} bytes forgets the {} that were in use", d.id(), after.peak, with.now));
  });
}

}  // namespace concord::plugin_check
