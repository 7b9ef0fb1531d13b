// The CUDA and HIP plug-ins, where they were built: they load beside the others whether or not the machine has such a
// GPU, and say what is missing. What they compute is for the conformance suite.
#include <gmock/gmock.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "program.hpp"

namespace {
using namespace cli_test;
using Json = nlohmann::json;
using ::testing::HasSubstr;
using ::testing::StartsWith;

struct Target {
  const char* backend;
  const char* absent;  // how the reason begins where there is no GPU
  std::vector<std::string> ids;
  friend void PrintTo(const Target& t, std::ostream* out) { *out << t.backend; }
};
const Target kTargets[] = {{"cuda", "no CUDA d", {"cuda:0", "cuda:0:portable", "cuda:0:tf32"}},
                           {"hip", "no HIP d", {"hip:0", "hip:0:portable"}}};

class Gpu : public testing::TestWithParam<Target> {
 protected:
  void SetUp() override {
    plugin_ = std::string(CONCORD_BINARY_DIR) + "/bin/libconcord_backend_" + GetParam().backend + ".so";
    if (std::string(CONCORD_GPU_BACKENDS).find(GetParam().backend) == std::string::npos)
      GTEST_SKIP() << plugin_ << " is no part of this build: no compiler for it was found";
    ASSERT_TRUE(fs::exists(plugin_)) << plugin_ << " is part of this build and not there";
    const Outcome out = concord("doctor --json");
    ASSERT_EQ(out.exit, 0) << out.output;
    report_ = Json::parse(out.output, nullptr, false);
    ASSERT_FALSE(report_.is_discarded()) << out.output;
    for (const Json& d : report_["devices"])
      if (d["backend"] == GetParam().backend) devices_.push_back(d);
  }
  bool any_available() const {
    return std::any_of(devices_.begin(), devices_.end(), [](const Json& d) { return d["available"].get<bool>(); });
  }
  std::string plugin_;
  Json report_;
  std::vector<Json> devices_;
};

TEST_P(Gpu, IsLoadedAndListed) {
  for (const Json& failure : report_["plugin_failures"]) EXPECT_NE(failure["path"], plugin_) << failure["why"];
  for (const std::string& id : GetParam().ids)
    EXPECT_TRUE(std::any_of(devices_.begin(), devices_.end(), [&](const Json& d) { return d["id"] == id; }))
        << id << " is not in " << report_["devices"].dump(1);
}

TEST_P(Gpu, IsAvailableOrSaysWhyNot) {
  ASSERT_FALSE(devices_.empty());
  for (const Json& d : devices_) {
    if (d["available"].get<bool>()) {
      EXPECT_GT(d["compute_units"].get<int>(), 0) << d.dump(1);
      EXPECT_NE(d["architecture"], "") << d.dump(1);
    } else if (!any_available()) {
      EXPECT_THAT(d["why"].get<std::string>(), StartsWith(GetParam().absent)) << d.dump(1);
    }
  }
}

TEST_P(Gpu, CommandsThatNeedAnAbsentOneEndWithThreeAndTheReason) {
  if (any_available()) GTEST_SKIP() << "this machine has a device of " << GetParam().backend;
  ASSERT_FALSE(devices_.empty());
  const std::string name = GetParam().backend;
  for (const std::string& command :
       {"run exp1 --backends " + name, "conform --backends " + name, "conform --backends " + name + ":0:portable",
        "doctor --require-backends " + name}) {
    const Outcome out = concord(command);
    EXPECT_EQ(out.exit, 3) << command << "\n" << out.output;
    EXPECT_THAT(out.output, HasSubstr(devices_.front()["why"].get<std::string>())) << command;
  }
}

// Without a device only the file and the questions can be judged: exit 5 says that it was not all. A failed check would
// be exit 1.
TEST_P(Gpu, PassesThePlugInChecks) {
  const Outcome out = concord("plugin-check --json " + plugin_);
  EXPECT_EQ(out.exit, any_available() ? 0 : 5) << out.output;
  const Json report = Json::parse(out.output.substr(0, out.output.rfind('}') + 1), nullptr, false);
  ASSERT_FALSE(report.is_discarded()) << out.output;
  for (const Json& c : report["checks"]) {
    EXPECT_NE(c["verdict"], "FAIL") << c.dump(1);
    if (c["name"] == "exports" || c["name"] == "symbols" || c["name"] == "device-info") {
      EXPECT_EQ(c["verdict"], "ok") << c.dump(1);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, Gpu, testing::ValuesIn(kTargets),
                         [](const auto& target) { return std::string(target.param.backend); });

class GpuLibraries : public Scratch {};
TEST_F(GpuLibraries, APlugInWhoseLibraryIsMissingStopsNobody) {
  const std::string binary = CONCORD_BINARY_DIR,
                    path = "CONCORD_BACKEND_PATH=" + binary + "/test_plugins/orphan:" + binary + "/bin ";
  const Outcome out = concord("doctor", path);
  EXPECT_EQ(out.exit, 0) << out.output;
  EXPECT_THAT(out.output,
              HasSubstr("libconcord_backend_orphan.so: libconcord_test_gone.so: cannot open shared object file"));
  EXPECT_THAT(out.output, HasSubstr("cpu:strict"));
  const Outcome run =
      concord("conform --backends cpu:strict --case 'add/N=33,R=3,in=uniform,place=1,x=bf16' --out " + at("run"), path);
  EXPECT_EQ(run.exit, 0) << run.output;
  EXPECT_THAT(run.output, HasSubstr("PARTIAL: "));
}

}  // namespace
