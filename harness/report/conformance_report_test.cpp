#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "report/conformance_summary.hpp"
#include "report/table.hpp"

namespace concord::conformance {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

PlannedCase planned(const std::string& id) {
  PlannedCase c;
  c.spec = CaseSpec::parse(id).value();
  c.id = id, c.family = c.spec.op;
  return c;
}

CaseRecord record(const std::string& id, CaseStatus status, double margin) {
  CaseRecord r;
  r.id = id, r.device = "cpu:a", r.family = "softmax", r.status = status;
  r.check = status == CaseStatus::kPass ? "none" : "bound", r.reason = "because <this> & \"that\"";
  r.evidence.outcome = Outcome::kCompleted, r.evidence.kernel = "softmax: test", r.evidence.seconds = 0.5;
  OutputFindings o;
  o.name = "y", o.elements = 12, o.margin = margin, o.margin_probable = 2 * margin,
  o.above_rigorous = margin > 1 ? 3 : 0;
  o.worst = {.index = 7, .at = {1, 3}, .got = 2, .want = 1, .rigorous = 0.25, .probable = 0.1};
  r.evidence.outputs = {o};
  r.body = {{"repro", "concord conform --case '" + id + "'"}};
  return r;
}

ConformanceReport sample() {
  ConformanceReport report;
  const std::string ids[] = {"softmax/N=1,R=1,x=bf16", "softmax/N=2,R=1,x=bf16", "softmax/N=3,R=1", "add/N=4,R=1,x=f32"};
  for (const std::string& id : ids) report.plan.push_back(planned(id));
  report.records = {record(ids[0], CaseStatus::kPass, 0.25), record(ids[1], CaseStatus::kFail, 4),
                    record(ids[2], CaseStatus::kUnsupported, 0)};
  report.records[2].evidence.outcome = Outcome::kUnsupported, report.records[2].evidence.outputs.clear();
  DeviceVerdict d;
  d.device = "cpu:a", d.device_name = "Some <CPU>", d.list = "cpu.smoke", d.required = 2, d.executed = 1, d.planned = 4,
  d.exit = 1, d.missing = {ids[1]};
  report.verdict.devices = {d};
  report.verdict.line = "RED: 1 executed of 2 required", report.command = "concord conform --tier smoke";
  return report;
}

TEST(ConformanceSummary, CountsEachPlannedCaseOnce) {
  const auto rows = operator_rows(sample());
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].op, "add");
  EXPECT_EQ(rows[0].count(CaseStatus::kNotRun), 1u);  // planned, without a record
  EXPECT_TRUE(rows[0].red());
  EXPECT_EQ(rows[1].planned, 3u);
  EXPECT_EQ(rows[1].others(), "1 FAIL, 1 UNSUPPORTED");
  EXPECT_DOUBLE_EQ(rows[1].margin, 4);
  EXPECT_TRUE(rows[1].red());
}

TEST(ConformanceSummary, AnExpiredWaiverIsNotGood) {
  CaseRecord r = record("softmax/N=1,R=1", CaseStatus::kPass, 0.1);
  EXPECT_TRUE(is_good(r));
  r.waiver_expired = true;
  EXPECT_FALSE(is_good(r));
  r.waiver_expired = false, r.status = CaseStatus::kXPass;
  EXPECT_FALSE(is_good(r));
  r.status = CaseStatus::kMistrusted;
  EXPECT_FALSE(is_good(r));
}

TEST(ConformanceReport, TheTerminalNamesTheWorstElementAndHowToSeeItAgain) {
  const std::string text = terminal_report(sample());
  EXPECT_THAT(text, HasSubstr("worst [1,3]: got 2, want 1, bound 0.25"));
  EXPECT_THAT(text, HasSubstr("REPRO: concord conform --case 'softmax/N=2,R=1,x=bf16'"));
  EXPECT_THAT(text, HasSubstr("RED: 1 executed of 2 required"));
}

TEST(ConformanceReport, JUnitCountsAndEscapes) {
  const std::string xml = junit_report(sample());
  EXPECT_THAT(
      xml, HasSubstr("<testsuites name=\"concord conformance\" tests=\"4\" failures=\"1\" errors=\"1\" skipped=\"1\""));
  EXPECT_THAT(xml,
              HasSubstr("<failure type=\"FAIL\" message=\"bound: because &lt;this&gt; &amp; &quot;that&quot;\"/>"));
  EXPECT_THAT(xml, HasSubstr("<error type=\"NOT_RUN\""));
  EXPECT_THAT(xml, HasSubstr("<property name=\"y.margin\" value=\"0.25\"/>"));
  EXPECT_THAT(xml, Not(HasSubstr("<CPU>")));
}

TEST(ConformanceReport, ARequiredCaseThatIsUnsupportedIsAFailureForCi) {
  ConformanceReport report = sample();
  report.verdict.devices[0].missing.push_back("softmax/N=3,R=1");
  EXPECT_THAT(junit_report(report), HasSubstr("failures=\"2\" errors=\"1\" skipped=\"0\""));
}

TEST(ConformanceReport, MarkdownAndPictureShowWhatWasNotRun) {
  const ConformanceReport report = sample();
  EXPECT_THAT(markdown_report(report, "margins.svg"),
              HasSubstr("![largest margin by operator and device](margins.svg)"));
  EXPECT_THAT(markdown_report(report, ""),
              HasSubstr("| cpu:a | softmax | 1/3 | 1 FAIL, 1 UNSUPPORTED | - | - | 4 | 8 |"));
  EXPECT_THAT(margin_map_svg(report), HasSubstr(">not run<"));
}

TEST(Xml, ControlCharactersBecomeText) { EXPECT_EQ(xml_escaped(std::string_view("a\x01<b>")), "a\\x01&lt;b&gt;"); }

}  // namespace
}  // namespace concord::conformance
