// The loader with good, bad and absent plug-ins, and the ownership and bookkeeping of devices.
#include "device/device.hpp"

#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace concord {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

const std::string kPlugins = CONCORD_BINARY_DIR "/test_plugins";

std::string failure_of(const Backends& b, const std::string& name) {
  for (const PluginFailure& f : b.failures())
    if (fs::path(f.path).filename() == "libconcord_backend_" + name + ".so") return f.why;
  return "no failure";
}

TEST(Loader, EveryBadPluginIsListedWithItsReason) {
  const Backends b = Backends::discover({kPlugins + "/bad"});
  EXPECT_TRUE(b.devices().empty());
  EXPECT_EQ(b.failures().size(), 7u);
  EXPECT_THAT(failure_of(b, "no_entry"), HasSubstr("concord_backend_entry"));
  EXPECT_THAT(failure_of(b, "major"), HasSubstr("built for ABI 3.1, this program speaks 2.1"));
  EXPECT_THAT(failure_of(b, "null"), HasSubstr("refused ABI 2.1 of this program: plug-in serves ABI 7.3"));
  EXPECT_THAT(failure_of(b, "null_silent"), HasSubstr("no reason given"));
  EXPECT_THAT(failure_of(b, "small"), HasSubstr("64 bytes, expected at least"));
  EXPECT_THAT(failure_of(b, "empty_entry"), HasSubstr("empty entry"));
  EXPECT_THAT(failure_of(b, "no_name"), HasSubstr("no name"));
}

TEST(Loader, AFileThatIsNoLibraryIsAFailureNotACrash) {
  const fs::path folder = fs::path(::testing::TempDir()) / "concord_no_library";
  fs::create_directories(folder);
  std::ofstream(folder / "libconcord_backend_text.so") << "this is text";
  std::ofstream(folder / "libconcord_backend_empty.so");
  fs::create_directories(folder / "libconcord_backend_folder.so");
  std::ofstream(folder / "libsomething_else.so") << "ignored";
  const Backends b = Backends::discover({folder.string(), "/does/not/exist", ""});
  EXPECT_EQ(b.failures().size(), 3u);
  EXPECT_TRUE(b.devices().empty());
  for (const PluginFailure& f : b.failures()) EXPECT_FALSE(f.why.empty());
  fs::remove_all(folder);
}

TEST(Loader, ABackendNameIsServedOnce) {
  const Backends b = Backends::discover({kPlugins + "/fake"});
  EXPECT_THAT(failure_of(b, "fake_again"), HasSubstr("already provided by"));
  EXPECT_THAT(b.failures()[0].why, HasSubstr("device 3: facts cannot be read"));
  EXPECT_EQ(b.devices().size(), 4u);
  EXPECT_EQ(b.devices()[0].driver.size(), 64u) << "a field without terminator is cut at its end";
  EXPECT_EQ(b.devices()[0].build, "fake 9.9, none");
}

TEST(Loader, OneFileOnceAndTheEarlierFolderWins) {
  const Backends b = Backends::discover({kPlugins + "/fake", kPlugins + "/fake"});
  EXPECT_EQ(b.devices().size(), 4u);
}

TEST(Loader, SearchPathComesFromTheEnvironment) {
  setenv("CONCORD_BACKEND_PATH", ("::/nowhere:" + kPlugins + "/fake:").c_str(), 1);
  const Backends b = Backends::discover();
  EXPECT_EQ(b.devices().size(), 4u);
  setenv("CONCORD_BACKEND_PATH", "/nowhere", 1);
  EXPECT_TRUE(Backends::discover().devices().empty());
  unsetenv("CONCORD_BACKEND_PATH");
  EXPECT_EQ(Backends::discover().resolve("reference").value(), "reference") << "without it: beside the program";
}

TEST(Loader, DevicesAreSortedByBackend) {
  const Backends b = Backends::discover({CONCORD_BINARY_DIR "/bin", kPlugins + "/fake"});
  EXPECT_TRUE(std::is_sorted(b.devices().begin(), b.devices().end(),
                             [](const auto& x, const auto& y) { return x.backend < y.backend; }));
  for (const DeviceFacts& f : b.devices()) {
    if (!f.available) continue;
    const auto resolved = b.resolve(f.id);
    ASSERT_TRUE(resolved.has_value()) << f.id;
    EXPECT_EQ(*resolved, f.id);
  }
  auto reference = b.open("reference");
  ASSERT_TRUE(reference.has_value()) << "the slot still belongs to its device after sorting";
  EXPECT_EQ(reference->facts().id, "reference");
  EXPECT_EQ(reference->facts().name, "float64 reference");
}

TEST(Open, ErrorsSayWhatIsMissing) {
  const Backends b = Backends::discover({kPlugins + "/fake"});
  const auto code = [&](const std::string& id) { return b.open(id).error(); };
  EXPECT_EQ(code("cuda").code, "device.unknown");
  EXPECT_EQ(exit_code(code("cuda").kind), exit_codes::kMissingDevice);
  EXPECT_THAT(code("cuda").message, HasSubstr("fake:0"));
  EXPECT_EQ(code("fake:1").code, "device.unavailable");
  EXPECT_THAT(code("fake:1").message, HasSubstr("it is only pretended"));
  EXPECT_EQ(exit_code(code("fake:1").kind), exit_codes::kMissingDevice);
  EXPECT_EQ(code("fake:2").code, "device.open");
  EXPECT_THAT(code("fake:2").message, HasSubstr("the fake driver is missing"));
  EXPECT_EQ(code("fake:4").code, "device.open");
  EXPECT_EQ(b.resolve("fake").value(), "fake:0");
  EXPECT_EQ(b.resolve("").error().code, "device.unknown");
  EXPECT_EQ(Backends::discover({"/nowhere"}).resolve("cpu").error().message, "no device 'cpu'; found: none");
}

// Counters inside the plug-in: what was created less what was destroyed.
const long* live() {
  void* handle = dlopen((kPlugins + "/fake/libconcord_backend_fake.so").c_str(), RTLD_NOW | RTLD_LOCAL);
  return static_cast<const long*>(dlsym(handle, "concord_test_live"));
}

class Ownership : public ::testing::Test {
 protected:
  Backends backends_ = Backends::discover({kPlugins + "/fake"});
  Device open() { return std::move(*backends_.open("fake")); }
};

TEST_F(Ownership, EverythingIsReleasedExactlyOnce) {
  {
    Device a = open(), b = open();
    EXPECT_EQ(live()[0], 2);
    Buffer one = *a.allocate(10), two = *a.allocate(20);
    EXPECT_EQ(live()[1], 2);
    two = std::move(one);
    EXPECT_EQ(live()[1], 1);
    EXPECT_EQ(two.size(), 10u);
    EXPECT_EQ(one.size(), 0u);
    Buffer& self = two;
    two = std::move(self);
    EXPECT_EQ(live()[1], 1) << "assignment to itself";
    Buffer moved(std::move(two));
    EXPECT_EQ(live()[1], 1);
    concord_weight_desc desc{};
    Weight w = *a.create_weight(desc);
    w = Weight();
    EXPECT_EQ(live()[2], 0);
    Weight x = *a.create_weight(desc), y(std::move(x));
    EXPECT_EQ(live()[2], 1);
    b = open();
    EXPECT_EQ(live()[0], 2) << "the device that was replaced is closed";
    Device c(std::move(b));
    EXPECT_EQ(live()[0], 2);
  }
  EXPECT_EQ(live()[0], 0) << "no device closed twice or never";
  EXPECT_EQ(live()[1], 0);
  EXPECT_EQ(live()[2], 0);
}

TEST_F(Ownership, FailuresOwnNothing) {
  Device d = open();
  EXPECT_EQ(d.allocate(2000).error().code, "device.out_of_memory");
  EXPECT_THAT(d.allocate(2000).error().message, HasSubstr("2000 bytes"));
  concord_weight_desc desc{};
  desc.dtype = CONCORD_I8;
  const Error e = d.create_weight(desc).error();
  EXPECT_EQ(e.code, "device.unsupported");
  EXPECT_EQ(e.kind, ErrorKind::kUnsupported);
  EXPECT_THAT(e.message, HasSubstr("(dtype)"));
  EXPECT_EQ(live()[1], 0);
  EXPECT_EQ(live()[2], 0);
}

TEST_F(Ownership, CallsAreWitnessed) {
  Device d = open();
  EXPECT_EQ(d.threads(), 7u) << "0 threads means all that the device has";
  EXPECT_TRUE(d.run(make_call(CONCORD_OP_ADD)).has_value());
  EXPECT_TRUE(d.run(make_call(CONCORD_OP_ADD)).has_value());
  EXPECT_EQ(d.determinism(), CONCORD_ALWAYS_IDENTICAL);
  EXPECT_EQ(d.fallbacks(), 0u);
  EXPECT_TRUE(d.run(make_call(CONCORD_OP_SOFTMAX)).has_value());
  EXPECT_TRUE(d.run(make_call(CONCORD_OP_ARGMAX)).has_value());
  EXPECT_TRUE(d.run(make_call(CONCORD_OP_ADD)).has_value());
  EXPECT_EQ(d.kernels().at("op 9: fake"), 3u);
  EXPECT_EQ(d.kernels().size(), 3u);
  EXPECT_EQ(d.fallbacks(), 3u) << "a fallback is not forgotten";
  EXPECT_EQ(d.determinism(), CONCORD_RUN_TO_RUN_VARYING) << "the weakest class so far";
}

// The last entries are optional, and a table of ABI 2.0 ends before them: what lies behind it in memory is not theirs.
TEST(OlderTable, IsServedWithoutWhatItDoesNotHave) {
  const Backends b = Backends::discover({kPlugins + "/older"});
  EXPECT_TRUE(b.failures().size() == 1 && b.failures()[0].why.find("device 3") != std::string::npos) << "its table is accepted";
  auto d = b.open("fake:0");
  ASSERT_TRUE(d.has_value()) << d.error().message;
  EXPECT_FALSE(d->has_host_memory());
  EXPECT_FALSE(d->copies_beside_work());
  EXPECT_FALSE(d->has_weight_digest());
  EXPECT_FALSE(d->memory().has_value());
  EXPECT_EQ(d->allocate_host(64).error().code, "device.unsupported");
  const Stream none;
  EXPECT_EQ(d->default_waits_for(none).error().code, "device.unsupported");
  concord_weight_desc desc{};
  const Weight w = *d->create_weight(desc);
  EXPECT_EQ(*d->weight_digest(w), std::nullopt);
}

TEST_F(Ownership, AnOperatorWithoutWitnessOrMessageIsAnError) {
  Device d = open();
  const auto silent = d.run(make_call(CONCORD_OP_GELU));
  ASSERT_FALSE(silent.has_value());
  EXPECT_THAT(silent.error().message, HasSubstr("no witness"));
  const auto failed = d.run(make_call(CONCORD_OP_ROPE));
  EXPECT_EQ(failed.error().code, "device.failed");
  EXPECT_THAT(failed.error().message, HasSubstr("status 4 without a message"));
  EXPECT_EQ(d.supports(make_call(CONCORD_OP_ROPE)).error().code, "device.unsupported");
  EXPECT_THAT(d.supports(make_call(CONCORD_OP_ROPE)).error().message, HasSubstr("(not implemented)"));
  EXPECT_THAT(d.synchronize().error().message, HasSubstr("a late error of earlier work"));
  const Buffer b = *d.allocate(8);
  EXPECT_EQ(d.upload(b, 0, {}).error().code, "device.failed");
  EXPECT_EQ(d.download(b, 0, {}).error().code, "device.failed");
  EXPECT_TRUE(d.kernels().empty()) << "nothing that failed counts as executed";
}

TEST(Descriptors, TensorsCallsAndNames) {
  Buffer none;
  const concord_tensor t = tensor_of(DType::kBF16, {3, 4, 5}, none, 16);
  EXPECT_EQ(t.struct_size, sizeof(concord_tensor));
  EXPECT_EQ(t.dtype, static_cast<std::uint32_t>(CONCORD_BF16));
  EXPECT_EQ(t.rank, 3u);
  EXPECT_EQ(t.dims[2], 5);
  EXPECT_EQ(t.dims[3], 0);
  EXPECT_EQ(t.byte_offset, 16u);
  EXPECT_EQ(tensor_of(DType::kF32, {1, 2, 3, 4, 5}, none).rank, 5u)
      << "a rank beyond the ABI stays visible, to be refused";
  const concord_call c = make_call(CONCORD_OP_ROPE);
  EXPECT_EQ(c.struct_size, sizeof(concord_call));
  EXPECT_EQ(c.accumulate, static_cast<std::uint32_t>(CONCORD_F32));
  EXPECT_EQ(c.n_in + c.n_out, 0u);
  EXPECT_STREQ(op_name(CONCORD_OP_TOPK_ROUTING), "topk_routing");
  EXPECT_STREQ(op_name(99), "unknown operator");
  EXPECT_EQ(to_abi(DType::kF64), CONCORD_F64);
  EXPECT_EQ(to_abi(DType::kI8), CONCORD_I8);
  EXPECT_EQ(to_abi(DType::kU64), CONCORD_U4) << "no counterpart: a dtype that no operand may have";
}

}  // namespace
}  // namespace concord
