// Profiles as data: the shipped ones, the lookup, and a refusal for each way a file can be wrong.
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "compare/testing.hpp"

namespace concord {
namespace {
namespace fs = std::filesystem;

class ProfileFile : public ::testing::Test {
 protected:
  ProfileFile() : folder_(fs::path(::testing::TempDir()) / ("concord_profile_" + std::to_string(::getpid()))) {
    fs::create_directories(folder_ / "profiles");
  }
  ~ProfileFile() override {
    ::unsetenv("CONCORD_SUITES");
    fs::remove_all(folder_);
  }
  std::string write(const std::string& text, const std::string& name = "profiles/x.json") const {
    std::ofstream(folder_ / name) << text;
    return (folder_ / name).string();
  }
  // A shipped profile with one change, loaded.
  Result<Profile> changed(const std::string& name, const Json& patch) const {
    Json j = *read_json(std::string(CONCORD_SOURCE_DIR) + "/suites/profiles/" + name + ".json");
    j.merge_patch(patch);  // null removes a field
    return Profile::load(write(j.dump()));
  }
  void expect_code(const Result<Profile>& r, const std::string& code, const std::string& text = "") const {
    ASSERT_FALSE(r) << "expected " << code;
    EXPECT_EQ(r.error().code, code) << r.error().to_string();
    EXPECT_NE(r.error().message.find(text), std::string::npos) << r.error().message;
    EXPECT_EQ(r.error().kind, ErrorKind::kBadInput);
  }
  fs::path folder_;
};

TEST(ProfileShipped, Paper) {
  const auto p = Profile::load("paper");
  ASSERT_TRUE(p) << p.error().to_string();
  EXPECT_EQ(p->kind, Profile::Kind::kPaper);
  EXPECT_EQ(p->pe_max, 0.05);
  EXPECT_EQ(p->pm_min, 0.75);
  EXPECT_EQ(p->pw_min, 0.80);
  EXPECT_EQ(p->mean_max, 0.01);
  EXPECT_EQ(p->pm_min_count, 30u);
  EXPECT_EQ(p->parameters, (MetricParameters{0.5, 1.0 / 16}));
  EXPECT_FALSE(p->include_embedding);
  EXPECT_NE(p->source.find("second-hand"), std::string::npos);
}

TEST(ProfileShipped, Seed) {
  const auto p = Profile::load("seed");
  ASSERT_TRUE(p) << p.error().to_string();
  EXPECT_EQ(p->kind, Profile::Kind::kSeed);
  EXPECT_EQ(p->pw_min, 0.50);
  EXPECT_EQ(p->mean_exact, 1e-6);
  EXPECT_EQ(p->layer_stride, 8);
  EXPECT_TRUE(p->include_embedding);
  EXPECT_TRUE(p->accept_rate_strict);
}

TEST(ProfileShipped, ToplocAndRelL2) {
  const auto t = Profile::load("toploc");
  ASSERT_TRUE(t) << t.error().to_string();
  EXPECT_EQ(t->topk, 128u);
  EXPECT_EQ(t->exponent_mismatches_max, 38);
  EXPECT_EQ(t->mantissa_mean_max, 10);
  EXPECT_EQ(t->mantissa_median_max, 8);
  EXPECT_EQ(t->accept_rate_min, 1);
  const auto r = Profile::load("rel-l2");
  ASSERT_TRUE(r) << r.error().to_string();
  EXPECT_EQ(r->kind, Profile::Kind::kCalibrated);
  ASSERT_TRUE(r->limit_for("f32", "homogeneous"));
  EXPECT_FALSE(r->limit_for("int8", "homogeneous"));
}

TEST(ProfileShipped, EveryFileLoads) {
  const auto names = Profile::available();
  for (const char* required : {"paper", "rel-l2", "seed", "toploc"})
    EXPECT_NE(std::ranges::find(names, required), names.end()) << required;
  for (const auto& name : names) {
    const auto p = Profile::load(name);
    ASSERT_TRUE(p) << p.error().to_string();
    EXPECT_EQ(p->name, name) << "a profile is named like its file";
  }
}

TEST_F(ProfileFile, EnvironmentComesFirst) {
  ::setenv("CONCORD_SUITES", folder_.c_str(), 1);
  Json j = *read_json(std::string(CONCORD_SOURCE_DIR) + "/suites/profiles/paper.json");
  j["pe_max"] = 0.25;
  write(j.dump(), "profiles/mine.json");
  const auto p = Profile::load("mine");
  ASSERT_TRUE(p) << p.error().to_string();
  EXPECT_EQ(p->pe_max, 0.25);
  expect_code(Profile::load("paper"), "profile.unknown", "there are: mine");
}

TEST_F(ProfileFile, UnknownNamesListWhatExists) {
  expect_code(Profile::load("papr"), "profile.unknown", "paper, rel-l2, seed, toploc");
  expect_code(Profile::load(""), "profile.unknown");
  const auto r = Profile::load("/no/such/file.json");
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().code, "file.not_found");
}

TEST_F(ProfileFile, EachWayToBeWrong) {
  expect_code(Profile::load(write("{")), "profile.syntax");
  expect_code(Profile::load(write("[]")), "profile.wrong_type");
  expect_code(changed("paper", {{"schema", "concord.profile/2"}}), "profile.schema_version", "concord.profile/2");
  expect_code(changed("paper", {{"kind", "newspaper"}}), "profile.out_of_range", "newspaper");
  expect_code(changed("paper", {{"source", nullptr}}), "profile.missing_field", "source");
  expect_code(changed("paper", {{"citation", nullptr}}), "profile.missing_field", "citation");
  expect_code(changed("paper", {{"pe_max", nullptr}}), "profile.missing_field", "pe_max");
  expect_code(changed("paper", {{"accept_rate_min", nullptr}}), "profile.missing_field", "accept_rate_min");
  expect_code(changed("paper", {{"pe_maxx", 0.1}}), "profile.unknown_field", "pe_maxx");
  expect_code(changed("paper", {{"topk", 64}}), "profile.unknown_field", "topk");
  expect_code(changed("paper", {{"pe_max", "0.05"}}), "profile.wrong_type", "pe_max");
  expect_code(changed("paper", {{"pe_max", 1.5}}), "profile.out_of_range", "pe_max");
  expect_code(changed("paper", {{"tau_m", -0.1}}), "profile.out_of_range", "tau_m");
  expect_code(changed("paper", {{"accept_rate_min", 95}}), "profile.out_of_range", "accept_rate_min");
  expect_code(changed("seed", {{"layer_stride", 0}}), "profile.out_of_range", "layer_stride");
  expect_code(changed("toploc", {{"topk", 0}}), "profile.out_of_range", "topk");
}

TEST_F(ProfileFile, CalibratedLimits) {
  const auto with = [&](const Json& limits) { return changed("rel-l2", {{"limits", limits}}); };
  const Json one{{"activations", "f16"}, {"class", "homogeneous"}, {"rel_l2_max", 1e-3}, {"source", "measured"}};
  const auto but = [&](const Json& patch) {
    Json j = one;
    j.merge_patch(patch);
    return j;
  };
  EXPECT_TRUE(with(Json::array()));
  expect_code(with(Json::array({but({{"activations", "f64"}})})), "profile.out_of_range", "f16");
  expect_code(with(Json::array({but({{"rel_l2_max", nullptr}})})), "profile.missing_field", "ulp_p99_max");
  expect_code(with(Json::array({but({{"rel_l2_max", -1}})})), "profile.out_of_range", "rel_l2_max");
  expect_code(with(Json::array({but({{"source", nullptr}})})), "profile.missing_field", "source");
  expect_code(with(Json::array({but({{"rel_l1", 1}})})), "profile.unknown_field", "rel_l1");
  expect_code(with(Json::array({one, one})), "profile.duplicate_limit", "f16/homogeneous");
  const auto p =
      with(Json::array({one, but({{"class", "*"}, {"rel_l2_max", 2}}), but({{"activations", "*"}, {"rel_l2_max", 3}}),
                        but({{"activations", "*"}, {"class", "*"}, {"rel_l2_max", 4}})}));
  ASSERT_TRUE(p) << p.error().to_string();
  EXPECT_EQ(p->limit_for("f16", "homogeneous")->rel_l2_max, 1e-3);
  EXPECT_EQ(p->limit_for("f16", "heterogeneous")->rel_l2_max, 2);
  EXPECT_EQ(p->limit_for("f32", "homogeneous")->rel_l2_max, 3);
  EXPECT_EQ(p->limit_for("f32", "")->rel_l2_max, 4);
  const auto named = with(Json::array({one, but({{"model", "m"}, {"class", "*"}, {"rel_l2_max", 5}})}));
  ASSERT_TRUE(named) << named.error().to_string();
  EXPECT_EQ(named->limit_for("f16", "homogeneous", "m")->rel_l2_max, 5);
  EXPECT_EQ(named->limit_for("f16", "homogeneous", "other")->rel_l2_max, 1e-3);
  EXPECT_FALSE(named->limit_for("f16", "heterogeneous", "other"));
}

}  // namespace
}  // namespace concord
