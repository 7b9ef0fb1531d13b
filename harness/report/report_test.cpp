#include <gtest/gtest.h>

#include "report/render.hpp"

namespace concord {
namespace {

OrderedJson profile(std::uint64_t accepted, std::uint64_t cells, const char* verdict) {
  return {{"verdict", verdict},
          {"cells", cells},
          {"accepted", accepted},
          {"layers", {{{"layer", 8}, {"cells", cells}, {"accepted", accepted}}}},
          {"total", {{"pe", 0.5}, {"pm", nullptr}, {"rel_l2", 0.25}}}};
}

Record record(const char* experiment, int i, CaseStatus status, const char* expect) {
  Record r{.id = std::string(experiment) + "/" + std::to_string(i), .experiment = experiment, .status = status, .reason = "because", .body = {}};
  r.body = {{"title", "t"}, {"class", "homogeneous"}, {"expect", expect}, {"decide", "rel-l2"}, {"seed_accept_rate_min", 0.9}, {"prompt", "p"},
            {"cost", {{"generate_prefill_seconds", 1.0}, {"generate_decode_seconds", 0.5}, {"prompt_tokens", 7}}},
            {"prover", {{"device", "cpu:a"}, {"precision", "bf16"}}}, {"verifier", {{"device", "cpu:b"}, {"precision", "bf16"}}}};
  if (status == CaseStatus::kPass || status == CaseStatus::kFail)
    r.body["layers"] = {{{"layer", 8}, {"stats", {{"rel_l2", 0.25}}}}}, r.body["profiles"] = {{"rel-l2", profile(3, 4, "REJECT")}, {"seed", profile(4, 4, "ACCEPT")}};
  return r;
}

TEST(Summary, CountsCellsAndVerdicts) {
  const RunSummary s = summarize({record("exp1", 0, CaseStatus::kPass, "reject"), record("exp1", 1, CaseStatus::kPass, "reject")}, 2, {});
  ASSERT_EQ(s.experiments.size(), 1u);
  const GroupSummary& g = s.experiments[0].total;
  EXPECT_EQ(g.profiles.at("rel-l2").rate.accepted, 6u);
  EXPECT_EQ(g.profiles.at("rel-l2").rate.cells, 8u);
  EXPECT_EQ(g.profiles.at("rel-l2").reject, 2u);
  EXPECT_EQ(g.layers.at(8).at("seed").cells, 8u);
  EXPECT_DOUBLE_EQ(g.metrics.pe.value(), 0.5);
  EXPECT_DOUBLE_EQ(g.layer_rel_l2.at(8).value(), 0.25);
  EXPECT_EQ(g.metrics.pm.n, 0u);  // not applicable is not zero
  EXPECT_EQ(s.experiments[0].costs.at("p").comparisons, 2u);
  EXPECT_DOUBLE_EQ(s.experiments[0].costs.at("p").generate, 3.0);
  EXPECT_EQ(s.exit_code(), 0);
  EXPECT_EQ(s.verdict_line("cpu:a"), "GREEN: 2 executed of 2 required, 2 as expected, on cpu:a");
}

TEST(Summary, IsNeverGreenForWantOfWork) {
  EXPECT_EQ(summarize({}, 0, {}).exit_code(), 5);
  EXPECT_EQ(summarize({}, 4, {}).exit_code(), 5);
  EXPECT_EQ(summarize({record("exp1", 0, CaseStatus::kPass, "reject")}, 2, {}).exit_code(), 5);
  EXPECT_EQ(summarize({record("exp1", 0, CaseStatus::kPass, "reject")}, 1, {"exp2"}).exit_code(), 5);
  EXPECT_EQ(summarize({record("exp1", 0, CaseStatus::kUnsupported, "accept")}, 1, {}).exit_code(), 5);
  EXPECT_EQ(summarize({record("exp1", 0, CaseStatus::kFail, "accept")}, 1, {}).exit_code(), 1);
  EXPECT_EQ(summarize({record("exp1", 0, CaseStatus::kCrash, "accept")}, 1, {}).exit_code(), 1);
  EXPECT_EQ(summarize({record("exp1", 0, CaseStatus::kInconclusive, "accept")}, 1, {}).exit_code(), 6);
  for (const int required : {0, 1, 2})
    EXPECT_TRUE(summarize({}, static_cast<std::uint64_t>(required), {}).verdict_line("x").starts_with("RED: "));
}

TEST(Render, EveryReportNamesVerdictExpectationAndFailures) {
  const RunSummary s = summarize({record("exp1", 0, CaseStatus::kPass, "reject"), record("exp2", 1, CaseStatus::kFail, "accept")}, 2, {});
  const ReportContext context{.model = "m", .workload = "w", .devices = "cpu:a", .command = "concord run", .folder = ".", .provenance = {}, .outputs = {"short, bf16: some text"}, .notes = {"a note"}};
  for (const std::string& text : {terminal_report(s, context), markdown_report(s, context)}) {
    EXPECT_NE(text.find("RED: 2 executed of 2 required, 1 as expected"), std::string::npos);
    EXPECT_NE(text.find("exp2/1: FAIL: because"), std::string::npos);
    EXPECT_NE(text.find("a note"), std::string::npos);
    EXPECT_NE(text.find("0.7500 ["), std::string::npos);
  }
}

TEST(Render, TheMarkdownShowsWhatWasGenerated) {
  const ReportContext context{.outputs = {"short, bf16: some text"}};
  EXPECT_NE(markdown_report(summarize({}, 0, {}), context).find("- short, bf16: some text\n"), std::string::npos);
  EXPECT_EQ(markdown_report(summarize({}, 0, {}), {}).find("Generated text"), std::string::npos);
}

TEST(Render, ThePictureShowsUnjudgedLayersAsHatchedNotAsZero) {
  RunSummary s = summarize({record("exp1", 0, CaseStatus::kPass, "reject")}, 1, {});
  s.experiments[0].total.layers[0]["seed"] = Rate{1, 2};  // layer 0 is judged by seed alone
  const std::string svg = accept_rate_svg(s);
  EXPECT_NE(svg.find("url(#none)"), std::string::npos);
  EXPECT_NE(svg.find("1 of 2 cells"), std::string::npos);
  EXPECT_TRUE(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
}

}  // namespace
}  // namespace concord
