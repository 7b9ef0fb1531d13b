// Bundles for tests: a suite of its own in a temporary folder, and a device made of the oracle, rounded to the outputs'
// dtype. Included by tests only.
#pragma once
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <set>

#include "base/file.hpp"
#include "conformance/bundle/judge_bundle.hpp"
#include "conformance/bundle/submit.hpp"
#include "device/provenance.hpp"
#include "digest/digest.hpp"

namespace concord::conformance::bundle_testing {
namespace fs = std::filesystem;

inline const std::string kDevice = "test:oracle";
inline const std::vector<std::string> kIds = {
    "add/N=33,R=3,in=uniform,place=0,x=f32", "add/N=8,R=0,in=exact,place=0,x=f32",
    "matmul/K=64,M=3,N=5,bias=1,fuse=none,in=gaussian,place=0,w=f32,x=f32",
    "rmsnorm/N=64,R=2,eps=1e-5,in=gaussian,place=0,x=bf16", "softmax/N=33,R=2,in=gaussian,place=0,x=f32"};

inline std::string today() { return utc_now().substr(0, 10); }
inline void write_text(const fs::path& path, const std::string& text) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
}
inline std::string text_of(const fs::path& path) { return read_text(path).value(); }

inline std::uint32_t element_bytes(const Operand& o) {
  std::uint64_t n = 1;
  for (const std::int64_t d : o.dims) n *= static_cast<std::uint64_t>(d);
  return n == 0 ? 0 : static_cast<std::uint32_t>(o.bytes / n);
}

// What the oracle wants, stored as a device would store it.
inline void store(const ExpectedOutput& want, const Operand& o, std::span<std::byte> arena) {
  std::byte* to = arena.data() + o.offset;
  if (want.judged == Judged::kBits) {
    std::ranges::copy(want.bits, to);
    return;
  }
  const DType dtype = o.dtype == CONCORD_F16 ? DType::kF16 : o.dtype == CONCORD_BF16 ? DType::kBF16 : DType::kF32;
  for (std::size_t i = 0; i < want.want.size(); ++i) store_from_f64(dtype, to, i, want.want[i]);
}

// A device that computes exactly, and writes something else where `spoil` says so.
struct Device {
  std::uint64_t seed = 0;
  std::function<void(const Problem&, std::span<std::byte> arena)> spoil;
  std::vector<Waiver> waivers;
  std::string witness;

  struct Made {
    CaseRecord record;
    std::vector<std::byte> saved;
  };
  Made run(const PlannedCase& planned) const {
    const Problem problem = make_problem(planned.spec).value();
    std::vector<std::byte> inputs(problem.input_bytes), arena(problem.output_bytes);
    fill_inputs(problem, seed, inputs);
    fill_outputs(problem, 0, inputs, arena);
    Made made;
    Evidence& e = made.record.evidence;
    e.kernel = planned.spec.op + ": test oracle", e.again.repeats = 1, e.again.repeats_equal = 1,
    e.expect_refusal = problem.expect_refusal;
    if (problem.expect_refusal) {
      e.outcome = Outcome::kRefused;
      e.outputs = judge_untouched(problem, inputs, arena);
    } else {
      const Expectation expected = expect(problem, inputs, MathMode{}).value();
      for (std::size_t i = 0; i < problem.outputs.size(); ++i) store(expected.outputs[i], problem.outputs[i], arena);
      if (spoil) spoil(problem, arena);
      e.outcome = Outcome::kCompleted, e.math_mode = expected.mode.name();
      e.outputs = judge_outputs(problem, expected, inputs, arena);
    }
    for (const Operand& o : problem.outputs)
      made.saved.insert(made.saved.end(), arena.begin() + o.offset, arena.begin() + o.offset + o.bytes);
    if (!problem.expect_refusal) e.output_digest = hex(sha256(made.saved));
    describe(planned, made.record);
    return made;
  }

 private:
  void describe(const PlannedCase& planned, CaseRecord& r) const {
    r.id = planned.id, r.device = kDevice, r.family = planned.family;
    const Waived w =
        apply_waivers(waivers, r.id, r.device, r.evidence, decide(planned.spec, r.evidence, witness), today());
    r.status = w.decision.status, r.check = w.decision.check, r.reason = w.decision.reason, r.waiver = w.waiver,
    r.waiver_expired = w.expired;
    DeviceFacts facts;
    facts.id = kDevice, facts.name = "The oracle itself";
    r.body = {{"tier", tier_name(planned.tier)},
              {"seed", seed},
              {"facts", device_json(facts)},
              {"repro", "concord conform --case '" + r.id + "'"}};
    const OrderedJson where = provenance();  // a temporary would not live as long as the loop
    for (const auto& [key, value] : where.items()) r.body[key] = value;
  }
};

// Adds 0.01 to the first number of the first output.
inline void spoil_first(const Problem& problem, std::span<std::byte> arena) {
  const Operand& o = problem.outputs.front();
  const DType dtype = o.dtype == CONCORD_BF16 ? DType::kBF16 : DType::kF32;
  std::byte* at = arena.data() + o.offset;
  store_from_f64(dtype, at, 0, load_as_f64(dtype, at, 0) + 0.01);
}

class BundleTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / ("concord-bundle-" + std::to_string(::getpid()));
    fs::remove_all(folder_);
    fs::create_directories(folder_ / "suites");
    fs::copy(fs::path(CONCORD_SOURCE_DIR) / "suites/ops", folder_ / "suites/ops", fs::copy_options::recursive);
    ::setenv("CONCORD_SUITES", (folder_ / "suites").c_str(), 1);
    write_list(folder_ / "suites/required", kIds);
    suite_ = OperatorSuite::load().value();
  }
  void TearDown() override {
    ::unsetenv("CONCORD_SUITES");
    fs::remove_all(folder_);
  }

  static RequiredList list_of(const std::vector<std::string>& ids) {
    RequiredList list;
    list.name = "test.smoke", list.devices = {kDevice}, list.witness = "*: test oracle", list.ids = ids;
    return list;
  }
  static void write_list(const fs::path& folder, const std::vector<std::string>& ids) {
    write_text(folder / "test.smoke.lock", list_of(ids).to_text());
  }

  // A finished run. `spoil`: ids that the device gets wrong.
  fs::path run_folder(const Device& device, bool save, const std::set<std::string>& spoilt = {}) const {
    const fs::path run = folder_ / "run";
    fs::remove_all(run);
    std::string journal;
    for (const std::string& id : kIds) {
      Device one = device;
      if (!spoilt.contains(id))
        one.spoil = nullptr;
      else if (!one.spoil)
        one.spoil = spoil_first;
      Device::Made made = one.run(suite_.plan(CaseSpec::parse(id).value()).value());
      if (save) {
        const std::string name = "outputs/" + sha256_hex(made.record.key()).substr(0, 32) + ".bin";
        write_text(run / name, std::string(reinterpret_cast<const char*>(made.saved.data()), made.saved.size()));
        made.record.body["saved"] = {{"file", name}};
      }
      journal += made.record.to_line() + "\n";
    }
    write_text(run / "cases.jsonl", journal);
    const OrderedJson plan{{"schema", "concord.conform/1"}, {"tier", "smoke"},      {"devices", {kDevice}},
                           {"seed", device.seed},           {"cases", kIds.size()}, {"cases_sha256", ids_digest(kIds)}};
    write_text(run / "run.json", plan.dump());
    for (const char* rules : {"required", "waivers"})  // as conform leaves them
      if (fs::exists(folder_ / "suites" / rules)) fs::copy(folder_ / "suites" / rules, run / rules);
    return run;
  }

  std::string submit(const fs::path& run, const std::string& name = "bundle") const {
    const std::string out = (folder_ / name).string();
    fs::remove_all(out);
    const auto manifest = submit_run({.run = run.string(), .out = out, .statement = "made by a test"});
    EXPECT_TRUE(manifest) << manifest.error().to_string();
    return out;
  }
  std::string bundle(bool save, const std::set<std::string>& spoilt = {}, const Device& device = {}) const {
    return submit(run_folder(device, save, spoilt));
  }

  static Result<JudgedBundle> judge(const std::string& bundle, JudgeSettings settings = {}) {
    const std::atomic<bool> never{false};
    if (settings.today.empty()) settings.today = today();
    return judge_bundle(bundle, settings, never);
  }

  // A forger who knows the format: whatever was changed, the manifest says so.
  static void forge(const std::string& bundle, const std::function<void(BundleManifest&)>& more = {}) {
    const fs::path file = fs::path(bundle) / kManifestFile;
    BundleManifest m = BundleManifest::parse(text_of(file), file.string()).value();
    m.files = scan_bundle(bundle).value();
    m.definitions_sha256 = definitions_digest(m.files);
    if (more) more(m);
    write_text(file, m.to_text());
  }
  static std::vector<CaseRecord> records_of(const std::string& bundle) {
    return read_case_journal(bundle + "/cases.jsonl").value().records;
  }
  static void write_records(const std::string& bundle, const std::vector<CaseRecord>& records) {
    std::string text;
    for (const CaseRecord& r : records) text += r.to_line() + "\n";
    write_text(fs::path(bundle) / "cases.jsonl", text);
  }
  static void change_record(const std::string& bundle, const std::string& id,
                            const std::function<void(CaseRecord&)>& change) {
    std::vector<CaseRecord> records = records_of(bundle);
    for (CaseRecord& r : records)
      if (r.id == id) change(r);
    write_records(bundle, records);
    forge(bundle);
  }

  fs::path folder_;
  OperatorSuite suite_;
};

inline std::string code_of(const Result<JudgedBundle>& judged) {
  return judged ? "judged: " + judged->verdict.line : judged.error().code;
}
inline void pretend_pass(CaseRecord& r) {
  r.status = CaseStatus::kPass, r.check = "none", r.reason = "every check passed";
}

}  // namespace concord::conformance::bundle_testing
