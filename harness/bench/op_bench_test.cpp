// Timing operator cases on a device made here, whose faults are known: what is wrong gives no number, and cold calls
// find their operands swept out. Counts calls and bytes; looks at no clock.
#include "bench/op_bench.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <regex>

struct concord_device {
  int unused = 0;
};
struct concord_buffer {
  std::vector<std::byte> data;
  bool written = false;
};
struct concord_weight {
  int unused = 0;
};

namespace concord::bench {
namespace {

using conformance::CaseSpec;
using ::testing::HasSubstr;
using ::testing::Not;

const std::atomic<bool> kGoOn{false}, kStop{true};

enum class Fault {
  kNone,
  kWrongElement,
  kWrongLater,  // right for the first ten calls
  kWritesNothing,
  kWritesNothingLater,
  kBehindTheEnd,
  kChangesInput,
  kRemembers,    // gives back what it first computed for this shape
  kOtherKernel,  // the witness names another operator
  kOtherKernelLater,
  kFallsBack,
  kFailsLater,
  kRefuses,
  kNoSweep,  // has no ARGMAX
};

// What the device did, in order: operands of ADD that were read, and bytes that were read by ARGMAX in between.
struct Event {
  const concord_buffer* operands = nullptr;  // null: a sweep
  std::uint64_t bytes = 0;
};
struct Record {
  Fault fault = Fault::kNone;
  std::uint64_t adds = 0, fallbacks = 0;
  bool swept_unwritten = false;  // a sweep of memory that nobody wrote: one page of zeros, on a real machine
  std::vector<Event> events;
  std::vector<float> remembered;
};
Record record;

float* floats(const concord_tensor& t) { return reinterpret_cast<float*>(t.buffer->data.data() + t.byte_offset); }
std::uint64_t elements(const concord_tensor& t) {
  std::uint64_t n = 1;
  for (std::uint32_t i = 0; i < t.rank; ++i) n *= static_cast<std::uint64_t>(t.dims[i]);
  return n;
}

concord_status run_add(const concord_call& call, concord_witness& w) {
  const Fault f = record.fault;
  const bool later = ++record.adds > 10;
  if (f == Fault::kFailsLater && later) return CONCORD_DEVICE_ERROR;
  const std::uint64_t n = elements(call.out[0]);
  record.events.push_back({call.in[1].buffer, (call.in[0].buffer == call.out[0].buffer ? 2 : 3) * 4 * n});
  float *a = floats(call.in[0]), *b = floats(call.in[1]), *y = floats(call.out[0]);
  const bool writes = f != Fault::kWritesNothing && !(f == Fault::kWritesNothingLater && later);
  for (std::uint64_t i = 0; writes && i < n; ++i) y[i] = a[i] + b[i];
  if (f == Fault::kRemembers && record.remembered.size() != n) record.remembered.assign(y, y + n);
  if (f == Fault::kRemembers) std::ranges::copy(record.remembered, y);
  if (f == Fault::kWrongElement || (f == Fault::kWrongLater && later)) y[n / 2] = y[n / 2] * 2 + 1;
  if (f == Fault::kBehindTheEnd) y[n + 3] = 1;
  if (f == Fault::kChangesInput) b[0] = b[0] * 2 + 1;
  record.fallbacks += f == Fault::kFallsBack && later;
  w.fallbacks = record.fallbacks;
  const bool other = f == Fault::kOtherKernel || (f == Fault::kOtherKernelLater && later);
  std::snprintf(w.kernel, sizeof w.kernel, "%s: fake", other ? "softmax" : "add");
  return CONCORD_OK;
}

concord_status run_argmax(const concord_call& call, concord_witness& w) {
  record.events.push_back({nullptr, 4 * elements(call.in[0])});
  record.swept_unwritten |= !call.in[0].buffer->written;
  std::snprintf(w.kernel, sizeof w.kernel, "argmax: fake");
  w.fallbacks = record.fallbacks;
  return CONCORD_OK;
}

concord_status supports(concord_device*, const concord_call* call, concord_error*) {
  if (call->op == CONCORD_OP_ADD) return record.fault == Fault::kRefuses ? CONCORD_UNSUPPORTED : CONCORD_OK;
  return call->op == CONCORD_OP_ARGMAX && record.fault != Fault::kNoSweep ? CONCORD_OK : CONCORD_UNSUPPORTED;
}

concord_backend make_table() {
  concord_backend t{};
  t.struct_size = sizeof t, t.abi_major = CONCORD_ABI_MAJOR, t.abi_minor = CONCORD_ABI_MINOR;
  t.name = "fake", t.version = "1", t.build = "test";
  t.device_count = [] { return 1u; };
  t.device_info = [](std::uint32_t, concord_device_info* info, concord_error*) {
    std::snprintf(info->id, sizeof info->id, "fake");
    info->available = 1;
    return CONCORD_OK;
  };
  t.device_open = [](std::uint32_t, const concord_open_options*, concord_device** d, concord_error*) {
    return *d = new concord_device, CONCORD_OK;
  };
  t.device_close = [](concord_device* d) { delete d; };
  t.buffer_create = [](concord_device*, std::uint64_t bytes, concord_buffer** b, concord_error*) {
    return *b = new concord_buffer{std::vector<std::byte>(bytes)}, CONCORD_OK;
  };
  t.buffer_destroy = [](concord_device*, concord_buffer* b) { delete b; };
  t.upload = [](concord_device*, concord_stream*, concord_buffer* b, std::uint64_t offset, const void* host,
                std::uint64_t bytes, concord_error*) {
    b->written = true;
    return std::memcpy(b->data.data() + offset, host, bytes), CONCORD_OK;
  };
  t.download = [](concord_device*, concord_stream*, const concord_buffer* b, std::uint64_t offset, void* host,
                  std::uint64_t bytes,
                  concord_error*) { return std::memcpy(host, b->data.data() + offset, bytes), CONCORD_OK; };
  t.weight_create = [](concord_device*, const concord_weight_desc*, concord_weight**, concord_error*) {
    return CONCORD_UNSUPPORTED;
  };
  t.weight_destroy = [](concord_device*, concord_weight*) {};
  t.supports = supports;
  t.run = [](concord_device*, concord_stream*, const concord_call* call, concord_witness* w, concord_error*) {
    return call->op == CONCORD_OP_ADD ? run_add(*call, *w) : run_argmax(*call, *w);
  };
  t.stream_create = [](concord_device*, concord_stream**, concord_error*) { return CONCORD_UNSUPPORTED; };
  t.stream_destroy = [](concord_device*, concord_stream*) {};
  t.synchronize = [](concord_device*, concord_stream*, concord_error*) { return CONCORD_OK; };
  return t;
}
const concord_backend kFake = make_table();

// The clock decides nothing in these tests but how many calls a sample has.
OpBenchOptions options_of(const std::string& id, std::vector<Cache> caches) {
  OpBenchOptions o;
  conformance::PlannedCase planned;
  planned.spec = CaseSpec::parse(id).value();
  planned.id = id, planned.family = "activation", planned.flops = 1000, planned.bytes = 12000;
  o.cases = {planned};
  o.devices = {"fake"};
  o.caches = std::move(caches);
  o.limits = {.precision = 1e9, .max_seconds = 1, .min_samples = 9};
  o.sample_seconds = 1e-5;
  o.sweep_bytes = 1 << 20;
  return o;
}
constexpr const char* kAdd = "add/N=100,R=10,in=uniform,place=0,x=f32";
constexpr const char* kAddInPlace = "add/N=100,R=10,in=uniform,place=1,x=f32";

Result<OpBenchReport> bench_fake(Fault fault, const OpBenchOptions& o) {
  record = {};
  record.fault = fault;
  return bench_ops(o, Backends::builtin(kFake), {}, kGoOn);
}

struct Row {
  Fault fault;
  CaseStatus status;
  const char* check;
};
class WrongDevice : public testing::TestWithParam<std::tuple<Row, Cache>> {};

TEST_P(WrongDevice, GivesNoNumber) {
  const auto& [row, cache] = GetParam();
  const auto report = bench_fake(row.fault, options_of(kAdd, {cache}));
  ASSERT_TRUE(report) << report.error().to_string();
  const OpMeasurement& m = report->measurements.at(0);
  EXPECT_STREQ(status_name(m.verification.decision.status), status_name(row.status)) << m.verification.decision.reason;
  EXPECT_EQ(m.verification.decision.check, row.check) << m.verification.decision.reason;
  EXPECT_TRUE(m.samples.empty());
  EXPECT_EQ(report->counts().measured, 0u);
  const std::string table = render(*report), markdown = render_markdown(*report);
  EXPECT_THAT(table, HasSubstr(status_name(row.status)));
  const std::regex number(R"([0-9] (ns|us|ms|s)\b|INSUFFICIENT:|[0-9] x [0-9])");
  EXPECT_FALSE(std::regex_search(table, number)) << table;
  EXPECT_FALSE(std::regex_search(markdown, number)) << markdown;
  const OrderedJson j = to_json(*report);
  EXPECT_FALSE(j["measurements"][0].contains("time"));
  EXPECT_FALSE(j["measurements"][0].contains("rates"));
}

INSTANTIATE_TEST_SUITE_P(Faults, WrongDevice,
                         testing::Combine(testing::Values(Row{Fault::kWrongElement, CaseStatus::kFail, "bound"},
                                                          Row{Fault::kWrongLater, CaseStatus::kFail, "bound"},
                                                          Row{Fault::kWritesNothing, CaseStatus::kFail, "unwritten"},
                                                          Row{Fault::kWritesNothingLater, CaseStatus::kFail,
                                                              "unwritten"},
                                                          Row{Fault::kBehindTheEnd, CaseStatus::kFail, "guard"},
                                                          Row{Fault::kChangesInput, CaseStatus::kFail, "input"},
                                                          Row{Fault::kRemembers, CaseStatus::kFail, "bound"},
                                                          Row{Fault::kOtherKernel, CaseStatus::kFail, "witness"},
                                                          Row{Fault::kOtherKernelLater, CaseStatus::kFail, "witness"},
                                                          Row{Fault::kFallsBack, CaseStatus::kFail, "fallback"},
                                                          Row{Fault::kFailsLater, CaseStatus::kError, "outcome"},
                                                          Row{Fault::kRefuses, CaseStatus::kUnsupported, "outcome"}),
                                          testing::Values(Cache::kWarm, Cache::kCold)));

TEST(OpBench, ARightDeviceGivesNumbers) {
  for (const char* id : {kAdd, kAddInPlace}) {
    const auto report = bench_fake(Fault::kNone, options_of(id, {Cache::kWarm, Cache::kCold}));
    ASSERT_TRUE(report) << report.error().to_string();
    EXPECT_EQ(report->counts().measured, 2u) << render(*report);
    for (const OpMeasurement& m : report->measurements) {
      EXPECT_GE(m.samples.size(), 9u);
      EXPECT_TRUE(m.sufficient);
      EXPECT_EQ(m.verification.first.output_digest, m.verification.last.output_digest)
          << "operands in place are put back";
      EXPECT_EQ(report->peaks_of(m), std::nullopt) << "this processor's peaks are not the fake device's";
    }
    EXPECT_THAT(render(*report), HasSubstr("PASS"));
    const OrderedJson j = to_json(*report);
    EXPECT_EQ(j["measurements"].size(), 2u);
    EXPECT_EQ(j["measurements"][0]["time"]["seconds_per_call"].size(), report->measurements[0].samples.size());
    EXPECT_FALSE(j["measurements"][0]["rates"].contains("share_of_roofline"));
  }
}

TEST(OpBench, AnIntervalThatIsTooWideIsMarked) {
  OpBenchOptions o = options_of(kAdd, {Cache::kWarm});
  o.limits.precision = -1, o.limits.max_seconds = 0;  // cannot be reached
  const auto report = bench_fake(Fault::kNone, o);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->counts().measured, 1u);
  EXPECT_EQ(report->counts().insufficient, 1u);
  EXPECT_EQ(report->measurements[0].samples.size(), 9u) << "the least number is taken although the time is over";
  EXPECT_THAT(render(*report), HasSubstr("INSUFFICIENT"));
  EXPECT_FALSE(to_json(*report)["measurements"][0]["time"]["sufficient"].get<bool>());
}

// Bytes that were read between two uses of the same operands in the events, the least of all pairs.
std::uint64_t least_between() {
  std::map<const concord_buffer*, std::uint64_t> last;
  std::uint64_t total = 0, least = ~std::uint64_t{0};
  for (const Event& e : record.events) {
    if (const auto before = last.find(e.operands); e.operands && before != last.end())
      least = std::min(least, total - before->second);
    total += e.bytes;
    if (e.operands) last[e.operands] = total;
  }
  return least;
}

TEST(OpBench, ColdCallsFindTheirOperandsSweptOut) {
  for (const char* id : {kAdd, kAddInPlace}) {
    OpBenchOptions o = options_of(id, {Cache::kCold});
    DeviceFacts cpu;
    cpu.backend = "cpu";
    o.sweep_bytes = sweep_bytes_for(cpu);
    const auto report = bench_fake(Fault::kNone, o);
    ASSERT_TRUE(report) << report.error().to_string();
    const OpMeasurement& m = report->measurements.at(0);
    ASSERT_EQ(report->counts().measured, 1u) << render(*report);
    EXPECT_GT(last_level_cache(), 0u);
    record.events.pop_back();  // the call on other inputs
    // A sweep and the calls of each sample; before: calibration.
    const std::size_t timed = m.samples.size() * (1 + m.calls);
    ASSERT_GE(record.events.size(), timed);
    record.events.erase(record.events.begin(), record.events.end() - static_cast<std::ptrdiff_t>(timed));
    EXPECT_GT(least_between(), last_level_cache());
    EXPECT_GE(least_between(), m.bytes_between) << "no more than what was counted is claimed";
    EXPECT_EQ(m.copies, m.calls) << "no copy is used twice between two sweeps";
    EXPECT_FALSE(record.swept_unwritten);
  }
}

TEST(OpBench, WarmCallsUseTheSameOperandsWithoutASweep) {
  const auto report = bench_fake(Fault::kNone, options_of(kAdd, {Cache::kWarm}));
  ASSERT_TRUE(report);
  EXPECT_EQ(report->measurements[0].copies, 1u);
  EXPECT_EQ(report->measurements[0].bytes_between, 0u);
  for (const Event& e : record.events) EXPECT_EQ(e.operands, record.events[0].operands);
}

TEST(OpBench, ADeviceThatCannotBeSweptHasNoColdNumber) {
  const auto report = bench_fake(Fault::kNoSweep, options_of(kAdd, {Cache::kWarm, Cache::kCold}));
  ASSERT_TRUE(report);
  EXPECT_EQ(report->counts().measured, 1u);
  EXPECT_EQ(report->counts().unsupported, 1u);
  EXPECT_THAT(render(*report), HasSubstr("bench.no_sweep"));
}

TEST(OpBench, AnEmptyCaseIsSkippedAndInterruptionIsAnError) {
  const auto report = bench_fake(Fault::kNone, options_of("add/N=0,R=10,in=uniform,place=0,x=f32", {Cache::kWarm}));
  ASSERT_TRUE(report);
  EXPECT_EQ(report->counts().skipped, 1u);
  EXPECT_EQ(report->counts().measured, 0u);
  EXPECT_EQ(record.adds, 0u);
  const auto stopped = bench_ops(options_of(kAdd, {Cache::kWarm}), Backends::builtin(kFake), {}, kStop);
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().kind, ErrorKind::kInterrupted);
}

TEST(OpBench, TheWitnessMustMatchTheRequiredPattern) {
  OpBenchOptions o = options_of(kAdd, {Cache::kWarm});
  o.witness = {{"fake", "^add: another"}};
  const auto report = bench_fake(Fault::kNone, o);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->measurements[0].verification.decision.check, "witness");
}

TEST(CacheSweep, ReadsTwiceTheCacheOfAProcessorAndHalfAGibibyteElsewhere) {
  DeviceFacts cpu, other;
  cpu.backend = "cpu", other.backend = "cuda";
  EXPECT_EQ(sweep_bytes_for(cpu), 2 * last_level_cache());
  EXPECT_EQ(sweep_bytes_for(other), kSweepElsewhere);
}

}  // namespace
}  // namespace concord::bench
