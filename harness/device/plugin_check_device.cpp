// Checks of devices, buffers, copies, streams and of NULL in every place.
#include <algorithm>
#include <cstddef>

#include "device/plugin_calls.hpp"
#include "device/plugin_checks.hpp"

namespace concord::plugin_check {
namespace {

std::vector<std::byte> pattern(std::size_t n, unsigned salt) {
  std::vector<std::byte> bytes(n);
  for (std::size_t i = 0; i < n; ++i) bytes[i] = static_cast<std::byte>((i * 131 + salt * 17 + (i >> 8)) & 0xff);
  return bytes;
}
bool zero(const std::vector<std::byte>& bytes) {
  return std::ranges::all_of(bytes, [](std::byte b) { return b == std::byte{0}; });
}

constexpr std::uint64_t kBytes = 1 << 16;

}  // namespace

void check_open_close(Probe& p) {
  if (!p.load()) return;
  std::size_t available = 0;
  for (const Found& f : devices_of(p)) {
    if (!f.available) continue;
    ++available;
    expect_no_growth(p, f.id + ": device_open and device_close", [&] { Opened device(p, f); });
  }
  if (available == 0) each_device(p, [](Opened&) {});  // says why
  p.note(fmt::format("{} devices, each at least {} times", available, kWarmUp + kLeastWindows * kRounds));
}

void check_two_devices(Probe& p) {
  if (!p.load()) return;
  const std::vector<Found> found = devices_of(p);
  each_device(p, [&](Opened& first) {
    for (const Found& f : found) {
      if (!f.available) continue;
      Opened second(p, f);
      if (!second) continue;
      Memory b(p, second, kBytes);
      if (!b) continue;
      b.put(0, pattern(kBytes, 2));
      {
        Memory a(p, first, kBytes);
        if (a && a.put(0, pattern(kBytes, 1)))
          p.expect(a.take() == pattern(kBytes, 1), fmt::format("{} beside {}: a buffer changed", first.id(), f.id));
      }
      p.expect(b.take() == pattern(kBytes, 2), fmt::format("{} beside {}: a buffer changed", f.id, first.id()));
    }
    Found same{};
    for (const Found& f : found)
      if (f.id == first.id()) same = f;
    Opened survivor(p, same);
    if (!survivor) return;
    Memory b(p, survivor, kBytes);
    if (!b || !b.put(0, pattern(kBytes, 3))) return;
    {
      Opened closed(p, same);
    }
    p.expect(b.take() == pattern(kBytes, 3), first.id() + ": closing one device changed a buffer of another");
  });
}

void check_buffers(Probe& p) {
  if (!p.load()) return;
  each_device(p, [&](Opened& d) {
    for (int again = 0; again < 4; ++again) {  // memory that was used before is zero again
      Memory m(p, d, kBytes);
      if (!m) return;
      p.expect(zero(m.take()), d.id() + ": a new buffer is not filled with zeros");
      m.put(0, pattern(kBytes, 7));
    }
    concord_buffer* buffer = nullptr;
    const concord_status none = p.call(d.id() + ": buffer_create of 0 bytes", [&](concord_error* err) {
      return p.table().buffer_create(d.get(), 0, &buffer, err);
    });
    p.expect(none == CONCORD_OK || none == CONCORD_INVALID,
             fmt::format("{}: buffer_create of 0 bytes: {}, expected OK or INVALID", d.id(), status_name(none)));
    if (none == CONCORD_OK) p.table().buffer_destroy(d.get(), buffer);
    for (const std::uint64_t bytes : {~std::uint64_t{0}, ~std::uint64_t{0} - 62, std::uint64_t{1} << 60}) {
      concord_buffer* huge = nullptr;
      p.refused(fmt::format("{}: buffer_create of {} bytes", d.id(), bytes), {CONCORD_OUT_OF_MEMORY},
                [&](concord_error* err) { return p.table().buffer_create(d.get(), bytes, &huge, err); });
    }
  });
}

void check_buffer_leaks(Probe& p) {
  if (!p.load()) return;
  each_device(p, [&](Opened& d) {
    expect_no_growth(p, d.id() + ": buffer_create and buffer_destroy",
                     [&] { Memory small(p, d, 100), large(p, d, 1 << 20); });
  });
}

namespace {

struct Range {
  std::uint64_t offset, bytes;
};

void check_ranges(Probe& p, const Opened& d, Memory& m) {
  const std::uint64_t top = ~std::uint64_t{0};
  const Range wrong[] = {{0, kBytes + 1}, {kBytes, 1},   {kBytes + 1, 1}, {1, kBytes},
                         {top, 2},        {top - 7, 16}, {8, top - 7},    {0, top}};
  std::vector<std::byte> host(kBytes + 64, std::byte{0x33});
  const std::vector<std::byte> before = m.take();
  for (const Range& r : wrong) {
    const std::string place = fmt::format("{}: {} bytes at {} of {}", d.id(), r.bytes, r.offset, kBytes);
    p.refused(place + ": upload", {CONCORD_INVALID}, [&](concord_error* err) {
      return p.table().upload(d.get(), nullptr, m.get(), r.offset, host.data(), r.bytes, err);
    });
    p.refused(place + ": download", {CONCORD_INVALID}, [&](concord_error* err) {
      return p.table().download(d.get(), nullptr, m.get(), r.offset, host.data(), r.bytes, err);
    });
  }
  p.expect(std::ranges::all_of(host, [](std::byte b) { return b == std::byte{0x33}; }),
           d.id() + ": a download that was refused wrote to the host");
  p.expect(m.take() == before, d.id() + ": an upload that was refused wrote to the buffer");
}

void check_parts(Probe& p, const Opened& d, Memory& m) {
  std::vector<std::byte> want = pattern(kBytes, 1);
  if (!m.put(0, want)) return;
  for (const Range& r : {Range{0, 1}, Range{1, 3}, Range{4093, 4099}, Range{kBytes - 1, 1}, Range{kBytes - 64, 64}}) {
    const std::vector<std::byte> part = pattern(r.bytes, 9);
    std::ranges::copy(part, want.begin() + static_cast<std::ptrdiff_t>(r.offset));
    m.put(r.offset, part);
  }
  p.expect(m.take() == want, d.id() + ": what was uploaded in parts does not come back bit for bit");
  std::vector<std::byte> middle(77);
  p.works("download of 77 bytes at 4090", [&](concord_error* err) {
    return p.table().download(d.get(), nullptr, m.get(), 4090, middle.data(), 77, err);
  });
  p.works("synchronize", [&](concord_error* err) { return p.table().synchronize(d.get(), nullptr, err); });
  p.expect(std::equal(middle.begin(), middle.end(), want.begin() + 4090),
           d.id() + ": a part of a buffer does not come back bit for bit");
  for (const std::uint64_t offset : {std::uint64_t{0}, kBytes}) {
    p.works("upload of 0 bytes from NULL",
            [&](concord_error* err) { return p.table().upload(d.get(), nullptr, m.get(), offset, nullptr, 0, err); });
    p.works("download of 0 bytes to NULL",
            [&](concord_error* err) { return p.table().download(d.get(), nullptr, m.get(), offset, nullptr, 0, err); });
  }
}

}  // namespace

void check_copies(Probe& p) {
  if (!p.load()) return;
  each_device(p, [&](Opened& d) {
    Memory m(p, d, kBytes);
    if (!m) return;
    check_parts(p, d, m);
    check_ranges(p, d, m);
  });
}

void check_streams(Probe& p) {
  if (!p.load()) return;
  each_device(p, [&](Opened& d) {
    p.works(d.id() + ": synchronize of the default stream",
            [&](concord_error* err) { return p.table().synchronize(d.get(), nullptr, err); });
    concord_stream* stream = nullptr;
    const auto create = [&](concord_error* err) { return p.table().stream_create(d.get(), &stream, err); };
    const concord_status s = p.call(d.id() + ": stream_create", create);
    if (s == CONCORD_UNSUPPORTED) return p.note(d.id() + " has the default stream alone");
    if (!p.expect(s == CONCORD_OK && stream,
                  fmt::format("{}: stream_create: {}{}", d.id(), status_name(s), stream ? "" : ", no stream")))
      return;
    {
      Memory m(p, d, kBytes);
      if (m && m.put(0, pattern(kBytes, 4), stream))
        p.expect(m.take(stream) == pattern(kBytes, 4), d.id() + ": copies in order on a stream lose bits");
    }
    p.at(d.id() + ": stream_destroy");
    p.table().stream_destroy(d.get(), stream);
    expect_no_growth(p, d.id() + ": stream_create and stream_destroy", [&] {
      stream = nullptr;
      if (p.works("stream_create", create)) p.table().stream_destroy(d.get(), stream);
    });
  });
}

namespace {

// What a NULL case works with: everything but the one NULL is right.
struct NullCase {
  const concord_backend& t;
  concord_device* device;
  concord_buffer* buffer;
  concord_weight_desc weight;
  concord_call call;
};
struct NullRow {
  const char* what;
  concord_status (*run)(NullCase&, concord_error*);
  bool whole = false;  // the entry may be unsupported as a whole
};

// clang-format off
constexpr NullRow kNullRows[] = {
    {"device_info with info NULL", [](NullCase& n, concord_error* e) { return n.t.device_info(0, nullptr, e); }},
    {"device_open with device NULL", [](NullCase& n, concord_error* e) { return n.t.device_open(0, nullptr, nullptr, e); }},
    {"buffer_create with device NULL", [](NullCase& n, concord_error* e) { concord_buffer* b = nullptr; return n.t.buffer_create(nullptr, 8, &b, e); }},
    {"buffer_create with buffer NULL", [](NullCase& n, concord_error* e) { return n.t.buffer_create(n.device, 8, nullptr, e); }},
    {"upload with device NULL", [](NullCase& n, concord_error* e) { char c = 0; return n.t.upload(nullptr, nullptr, n.buffer, 0, &c, 1, e); }},
    {"upload with buffer NULL", [](NullCase& n, concord_error* e) { char c = 0; return n.t.upload(n.device, nullptr, nullptr, 0, &c, 1, e); }},
    {"upload with host NULL", [](NullCase& n, concord_error* e) { return n.t.upload(n.device, nullptr, n.buffer, 0, nullptr, 1, e); }},
    {"download with device NULL", [](NullCase& n, concord_error* e) { char c = 0; return n.t.download(nullptr, nullptr, n.buffer, 0, &c, 1, e); }},
    {"download with buffer NULL", [](NullCase& n, concord_error* e) { char c = 0; return n.t.download(n.device, nullptr, nullptr, 0, &c, 1, e); }},
    {"download with host NULL", [](NullCase& n, concord_error* e) { return n.t.download(n.device, nullptr, n.buffer, 0, nullptr, 1, e); }},
    {"weight_create with device NULL", [](NullCase& n, concord_error* e) { concord_weight* w = nullptr; return n.t.weight_create(nullptr, &n.weight, &w, e); }, true},
    {"weight_create with weight NULL", [](NullCase& n, concord_error* e) { return n.t.weight_create(n.device, &n.weight, nullptr, e); }, true},
    {"weight_create with description NULL", [](NullCase& n, concord_error* e) { concord_weight* w = nullptr; return n.t.weight_create(n.device, nullptr, &w, e); }, true},
    {"supports with device NULL", [](NullCase& n, concord_error* e) { return n.t.supports(nullptr, &n.call, e); }},
    {"supports with call NULL", [](NullCase& n, concord_error* e) { return n.t.supports(n.device, nullptr, e); }},
    {"run with device NULL", [](NullCase& n, concord_error* e) { return n.t.run(nullptr, nullptr, &n.call, nullptr, e); }},
    {"run with call NULL", [](NullCase& n, concord_error* e) { return n.t.run(n.device, nullptr, nullptr, nullptr, e); }},
    {"stream_create with device NULL", [](NullCase& n, concord_error* e) { concord_stream* s = nullptr; return n.t.stream_create(nullptr, &s, e); }, true},
    {"synchronize with device NULL", [](NullCase& n, concord_error* e) { return n.t.synchronize(nullptr, nullptr, e); }},
};
// clang-format on

void destroy_nothing(Probe& p, const Opened& d) {
  const concord_backend& t = p.table();
  p.at("device_close of NULL");
  t.device_close(nullptr);
  for (concord_device* device : {d.get(), static_cast<concord_device*>(nullptr)}) {
    const char* of = device ? "" : " of no device";
    p.at(fmt::format("buffer_destroy of NULL{}", of));
    t.buffer_destroy(device, nullptr);
    p.at(fmt::format("weight_destroy of NULL{}", of));
    t.weight_destroy(device, nullptr);
    p.at(fmt::format("stream_destroy of NULL{}", of));
    t.stream_destroy(device, nullptr);
  }
}

}  // namespace

void check_null_arguments(Probe& p) {
  if (!p.load()) return;
  each_device(p, [&](Opened& d) {
    Memory m(p, d, 64);
    if (!m) return;
    static const float kData[4] = {1, 2, 3, 4};
    NullCase n{p.table(), d.get(), m.get(), weight_of(CONCORD_F32, 2, 2, kData),
               small_call(CONCORD_OP_ADD, CONCORD_F32)};
    for (const NullRow& row : kNullRows)
      p.refused(fmt::format("{}: {}", d.id(), row.what),
                row.whole ? Statuses{CONCORD_INVALID, CONCORD_UNSUPPORTED} : Statuses{CONCORD_INVALID},
                [&](concord_error* err) { return row.run(n, err); });
    destroy_nothing(p, d);
    for (const Found& f : devices_of(p)) {
      if (f.id != d.id()) continue;
      concord_device* second = nullptr;
      if (p.works(d.id() + ": device_open without options",
                  [&](concord_error* err) { return p.table().device_open(f.index, nullptr, &second, err); }))
        p.table().device_close(second);
    }
  });
  p.note(fmt::format("{} places refused, with and without an error to fill", std::size(kNullRows)));
}

}  // namespace concord::plugin_check
