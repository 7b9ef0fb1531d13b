// Bundles that somebody changed. The forger knows the format: every digest is adjusted unless the test says otherwise.
#include "conformance/bundle/bundle_testing.hpp"

namespace concord::conformance::bundle_testing {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const std::string& kAdd = kIds[0];
const std::string& kEmpty = kIds[1];
const std::string& kMatmul = kIds[2];

class Tampering : public BundleTest {
 protected:
  // A forged bundle is judged, is red, and the record is named.
  static void expect_red(const std::string& bundle, const std::string& id, const std::string& words) {
    const auto judged = judge(bundle);
    ASSERT_TRUE(judged) << judged.error().to_string();
    EXPECT_THAT(judged->contradictions, Contains(testing::AllOf(HasSubstr(id), HasSubstr(words))));
    EXPECT_FALSE(judged->verdict.green);
    EXPECT_EQ(judged->verdict.exit, exit_codes::kConformance);
    EXPECT_THAT(judged->verdict.line, HasSubstr("RED"));
    EXPECT_THAT(judged->verdict.devices.front().missing, Contains(id));
  }
};

// --- files -----------------------------------------------------------------------------------------------------------

TEST_F(Tampering, AnyFileThatIsNotWhatTheManifestSays) {
  const std::string made = bundle(true),
                    output = made + "/" + BundleManifest::parse(text_of(made + "/manifest.json"), "m")->files[6].path;
  const std::string journal = made + "/cases.jsonl", whole = text_of(journal);
  std::string flipped = whole;
  flipped[flipped.size() / 2] ^= 1;
  write_text(journal, flipped);
  EXPECT_EQ(code_of(judge(made)), "bundle.digest");
  write_text(journal, whole + "\n");
  EXPECT_EQ(code_of(judge(made)), "bundle.size");
  fs::remove(journal);
  EXPECT_EQ(code_of(judge(made)), "bundle.missing_file");
  write_text(journal, whole);
  EXPECT_THAT(code_of(judge(made)), HasSubstr("GREEN"));
  write_text(made + "/outputs/more.bin", "x");
  EXPECT_EQ(code_of(judge(made)), "bundle.extra_file");
  fs::remove(made + "/outputs/more.bin");
  fs::create_directories(made + "/outputs/deeper");
  write_text(made + "/outputs/deeper/more.bin", "x");
  EXPECT_EQ(code_of(judge(made)), "bundle.extra_file");
}

TEST_F(Tampering, LinksAndSpecialFiles) {
  const std::string made = bundle(true);
  fs::rename(made + "/environment.json", folder_ / "environment.json");
  fs::create_symlink(folder_ / "environment.json", made + "/environment.json");
  EXPECT_EQ(code_of(judge(made)), "bundle.not_regular");
  fs::rename(made + "/manifest.json", folder_ / "manifest.json");
  fs::create_symlink(folder_ / "manifest.json", made + "/manifest.json");
  EXPECT_EQ(code_of(judge(made)), "bundle.no_manifest");
  EXPECT_EQ(code_of(judge((folder_ / "nothing").string())), "bundle.not_a_folder");
}

TEST_F(Tampering, PathsThatLeaveTheBundle) {
  const std::string made = bundle(true), manifest = text_of(made + "/manifest.json");
  for (const char* path : {"../cases.jsonl", "/etc/passwd", "outputs/../cases.jsonl", "outputs/.hidden.bin",
                           "outputs//a.bin", "other/file.json", "manifest.json", "ops/a.lock", ""}) {
    EXPECT_FALSE(is_bundle_path(path)) << path;
    std::string forged = manifest;
    forged.replace(forged.find("\"cases.jsonl\""), 13, Json(path).dump());
    write_text(made + "/manifest.json", forged);
    EXPECT_EQ(code_of(judge(made)), "bundle.path") << path;
  }
}

TEST_F(Tampering, TruncatedAndMalformedManifests) {
  const std::string manifest = text_of(bundle(true) + "/manifest.json");
  for (std::size_t n = 0; n + 2 < manifest.size(); n += 7)
    EXPECT_FALSE(BundleManifest::parse(manifest.substr(0, n), "m")) << n;
  const auto with = [&](const char* key, const Json& value) {
    Json changed = Json::parse(manifest);
    changed[key] = value;
    const auto parsed = BundleManifest::parse(changed.dump(), "m");
    return parsed ? "parsed" : parsed.error().code;
  };
  EXPECT_EQ(with("schema", "concord.bundle/2"), "bundle.schema_version");
  EXPECT_EQ(with("more", 1), "bundle.unknown_field");
  EXPECT_EQ(with("outputs", 4), "bundle.counts");
  EXPECT_EQ(with("records", -1), "bundle.out_of_range");
  EXPECT_EQ(with("seed", -1), "bundle.wrong_type");
  EXPECT_EQ(with("devices", Json::array({"a", "a"})), "bundle.out_of_range");
  EXPECT_EQ(with("devices", Json::array({"\x1b[31m"})), "bundle.out_of_range");
  EXPECT_EQ(with("definitions_sha256", std::string(64, '0')), "bundle.digest");
  EXPECT_EQ(with("lists", Json::array()), "bundle.counts");
  Json unsorted = Json::parse(manifest);
  std::swap(unsorted["files"][0], unsorted["files"][1]);
  EXPECT_EQ(BundleManifest::parse(unsorted.dump(), "m").error().code, "bundle.order");
}

TEST_F(Tampering, TruncatedContents) {
  const std::string made = bundle(true);
  for (const auto& [name, code] : {std::pair{"environment.json", "environment.syntax"},
                                   {"cases.jsonl", "bundle.torn"},
                                   {"plan.txt", "bundle.plan"}}) {
    const std::string path = made + "/" + name, whole = text_of(path);
    write_text(path, whole.substr(0, whole.size() - 3));
    forge(made);
    EXPECT_EQ(code_of(judge(made)), code) << name;
    write_text(path, whole);
  }
  forge(made);
  EXPECT_THAT(code_of(judge(made)), HasSubstr("GREEN"));
}

// --- records ---------------------------------------------------------------------------------------------------------

TEST_F(Tampering, AStatusChanged) {
  for (const bool save : {false, true}) {
    const std::string made = bundle(save, {kAdd});
    change_record(made, kAdd, pretend_pass);
    expect_red(made, kAdd, "the record claims PASS (none), its numbers say FAIL (bound)");
  }
}

TEST_F(Tampering, AFailureWithTheNumbersOfAPass) {
  const auto small_margin = [](CaseRecord& r) {
    pretend_pass(r);
    OutputFindings& f = r.evidence.outputs.front();
    f.above_rigorous = f.above_probable = 0, f.margin = f.margin_probable = 0.25, f.first = {};
  };
  for (const bool save : {false, true}) {
    const std::string made = bundle(save, {kMatmul});
    change_record(made, kMatmul, small_margin);
    expect_red(made, kMatmul, save ? "the outputs say" : "the worst element has an error of");
  }
}

TEST_F(Tampering, AFailureWhoseWorstElementWasMadeGoodEverywhere) {
  const auto careful = [](CaseRecord& r) {
    pretend_pass(r);
    OutputFindings& f = r.evidence.outputs.front();
    f.above_rigorous = f.above_probable = 0, f.margin = f.margin_probable = f.max_error = 0, f.first = {};
    f.worst.want = f.worst.got;
  };
  const std::string made = bundle(false, {kMatmul});
  change_record(made, kMatmul, careful);
  expect_red(made, kMatmul, "the oracle");
}

TEST_F(Tampering, AWiderBound) {
  const std::string made = bundle(false);
  change_record(made, kMatmul, [](CaseRecord& r) {
    OutputFindings& f = r.evidence.outputs.front();
    f.worst.rigorous *= 2, f.margin /= 2;
  });
  expect_red(made, kMatmul, "was judged by the bounds");
}

TEST_F(Tampering, AnotherMathMode) {
  const std::string made = bundle(true);
  change_record(made, kMatmul, [](CaseRecord& r) { r.evidence.math_mode = "tf32"; });
  expect_red(made, kMatmul, "judged by the bounds of tf32, but the device declares f32");
}

TEST_F(Tampering, ACaseSaidToBeRefusedRightly) {
  const std::string made = bundle(false, {kAdd});
  change_record(made, kAdd, [](CaseRecord& r) {
    pretend_pass(r);
    r.evidence.outcome = Outcome::kRefused, r.evidence.expect_refusal = true;
    for (OutputFindings& f : r.evidence.outputs)
      f.above_rigorous = f.above_probable = 0, f.margin = f.margin_probable = 0;
  });
  expect_red(made, kAdd, "it must be computed");
}

TEST_F(Tampering, FewerElementsAndOtherOutputs) {
  const std::string made = bundle(false);
  change_record(made, kMatmul, [](CaseRecord& r) { r.evidence.outputs.front().elements -= 1; });
  expect_red(made, kMatmul, "elements were judged");
  change_record(made, kMatmul, [](CaseRecord& r) { r.evidence.outputs.clear(); });
  expect_red(made, kMatmul, "findings of 0 outputs");
}

TEST_F(Tampering, AnOutputByteFlipped) {
  const std::string made = bundle(true);
  for (const CaseRecord& r : records_of(made)) {
    if (r.id != kMatmul) continue;
    const std::string path = made + "/" + saved_outputs(r);
    std::string bytes = text_of(path);
    bytes[3] ^= 0x01;  // an exponent bit of the first element
    write_text(path, bytes);
  }
  EXPECT_EQ(code_of(judge(made)), "bundle.digest");
  forge(made);
  expect_red(made, kMatmul, "output_digest is said to be");
  expect_red(made, kMatmul, "above_rigorous is said to be 0, the outputs say 1");
}

TEST_F(Tampering, OutputsOfAnotherSizeOrNobody) {
  const std::string made = bundle(true), path = made + "/" + saved_outputs(records_of(made).back()),
                    bytes = text_of(path);
  write_text(path, bytes + "more");
  forge(made);
  EXPECT_EQ(code_of(judge(made)), "outputs.size");
  write_text(path, bytes);
  write_text(made + "/outputs/nobody.bin", "x");
  forge(made, [](BundleManifest& m) { ++m.outputs; });
  EXPECT_EQ(code_of(judge(made)), "bundle.outputs");
}

TEST_F(Tampering, ARecordDeleted) {
  const std::string made = bundle(false);
  std::vector<CaseRecord> records = records_of(made);
  records.pop_back();
  write_records(made, records);
  forge(made);
  EXPECT_EQ(code_of(judge(made)), "bundle.counts");
  forge(made, [](BundleManifest& m) { --m.records; });
  const auto judged = judge(made);
  ASSERT_TRUE(judged) << judged.error().to_string();
  EXPECT_EQ(judged->verdict.exit, exit_codes::kNothingRun);
  EXPECT_THAT(judged->verdict.devices.front().missing, ElementsAre(kIds.back()));
  std::string plan = text_of(made + "/plan.txt");  // and from the plan, too
  plan.resize(plan.size() - kIds.back().size() - 1);
  write_text(made + "/plan.txt", plan);
  forge(made, [](BundleManifest& m) { m.records = kIds.size() - 1; });
  const auto partial = judge(made);
  EXPECT_THAT(partial->verdict.line, HasSubstr("PARTIAL"));
  EXPECT_EQ(partial->verdict.exit, exit_codes::kNothingRun);
}

TEST_F(Tampering, ARecordDoubledOrOfSomethingElse) {
  const std::string made = bundle(false);
  const std::vector<CaseRecord> honest = records_of(made);
  const auto with = [&](const std::function<void(std::vector<CaseRecord>&)>& change) {
    std::vector<CaseRecord> records = honest;
    change(records);
    write_records(made, records);
    forge(made, [&](BundleManifest& m) { m.records = records.size(); });
    return code_of(judge(made));
  };
  EXPECT_EQ(with([](auto& r) { r.push_back(r.front()); }), "bundle.duplicate_record");
  EXPECT_EQ(with([](auto& r) { r.front().id = "add/N=34,R=3,in=uniform,place=0,x=f32"; }), "bundle.unplanned");
  EXPECT_EQ(with([](auto& r) { r.front().device = "test:other"; }), "bundle.device");
  EXPECT_EQ(with([](auto& r) { r.front().family = "matmul"; }), "bundle.family");
  EXPECT_EQ(with([](auto& r) { r.front().body["seed"] = 1; }), "bundle.seed");
  EXPECT_EQ(with([](auto& r) { r.front().body["facts"]["features"] = "tf32"; }), "bundle.environment");
  EXPECT_EQ(with([](auto& r) { r.front().body["repro"] = "\x1b[2J"; }), "bundle.text");
  EXPECT_EQ(with([](auto& r) { r.front().body.erase("date"); }), "bundle.date");
  EXPECT_THAT(with([](auto&) {}), HasSubstr("GREEN"));
}

TEST_F(Tampering, AnotherSeedClaimed) {
  const std::string made = bundle(true, {}, {.seed = 5});
  std::vector<CaseRecord> records = records_of(made);
  for (CaseRecord& r : records) r.body["seed"] = 0;
  write_records(made, records);
  forge(made, [](BundleManifest& m) { m.seed = 0; });
  expect_red(made, kMatmul, "the outputs say");
}

TEST_F(Tampering, ARecordOfTomorrow) {
  const std::string made = bundle(false);
  change_record(made, kAdd, [](CaseRecord& r) { r.body["date"] = "2999-01-01T00:00:00Z"; });
  expect_red(made, kAdd, "it is dated 2999-01-01");
}

// --- what it is judged by --------------------------------------------------------------------------------------------

TEST_F(Tampering, AListShortened) {
  const std::string made = bundle(true, {kIds.back()});
  EXPECT_EQ(judge(made)->verdict.exit, exit_codes::kConformance);
  const std::vector<std::string> shorter(kIds.begin(), kIds.end() - 1);
  write_list(made + "/required", shorter);
  forge(made);
  EXPECT_EQ(code_of(judge(made)), "bundle.list");
  std::vector<CaseRecord> records = records_of(made);
  const std::string saved = saved_outputs(records.back());
  records.pop_back();
  write_records(made, records);
  std::string plan = text_of(made + "/plan.txt");
  plan.resize(plan.size() - kIds.back().size() - 1);
  write_text(made + "/plan.txt", plan);
  fs::remove(made + "/" + saved);
  forge(made, [&](BundleManifest& m) {
    --m.outputs, m.lists.front().count = shorter.size(), m.lists.front().sha256 = ids_digest(shorter),
                 m.records = shorter.size();
  });
  const auto judged = judge(made);
  ASSERT_TRUE(judged) << judged.error().to_string();
  EXPECT_THAT(judged->doubts, ElementsAre(HasSubstr("is NOT the one that this program has: it lacks 1 cases")));
  EXPECT_THAT(judged->verdict.line, HasSubstr("PARTIAL"));
  EXPECT_EQ(judged->verdict.exit, exit_codes::kNothingRun);
}

TEST_F(Tampering, AWiderWitness) {
  const std::string made = bundle(true);
  RequiredList list = list_of(kIds);
  list.witness = "*: *oracle*";
  write_text(made + "/required/test.smoke.lock", list.to_text());
  forge(made);
  const auto judged = judge(made);
  ASSERT_TRUE(judged) << judged.error().to_string();
  EXPECT_THAT(judged->doubts, ElementsAre(HasSubstr("its witness is \"*: *oracle*\"")));
  EXPECT_FALSE(judged->verdict.green);
}

TEST_F(Tampering, ADefinitionThatMeansSomethingElse) {
  const std::string made = bundle(true), path = made + "/ops/matmul.json";
  Json definition = Json::parse(text_of(path));
  definition["summary"] = "other words mean nothing";
  write_text(path, definition.dump());
  forge(made);
  EXPECT_THAT(code_of(judge(made)), HasSubstr("GREEN"));
  definition["flops"] = "1";
  write_text(path, definition.dump());
  forge(made);
  const auto judged = judge(made);
  ASSERT_FALSE(judged);
  EXPECT_EQ(judged.error().code, "bundle.definitions");
  EXPECT_THAT(judged.error().message, HasSubstr("/flops"));
}

}  // namespace
}  // namespace concord::conformance::bundle_testing
