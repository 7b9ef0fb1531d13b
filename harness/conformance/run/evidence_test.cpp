#include "conformance/run/evidence.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "conformance/run/session.hpp"

namespace concord::conformance {
namespace {

using testing::HasSubstr;

constexpr double kInf = std::numeric_limits<double>::infinity();
const char* const kId = "add/N=4,R=2,in=uniform,place=0,x=f32";

CaseSpec spec() { return *CaseSpec::parse(kId); }

OutputFindings good_output() {
  OutputFindings f;
  f.name = "y", f.judged = "bound", f.elements = 8, f.max_error = 1e-8, f.margin = 0.2, f.margin_probable = 0.5;
  f.worst = {.index = 5, .at = {1, 1}, .got = 1.5, .want = 1.25, .rigorous = 1, .probable = 0.5};
  return f;
}

Evidence good() {
  Evidence e;
  e.outcome = Outcome::kCompleted, e.kernel = "add: cpu avx2", e.math_mode = "f32", e.seconds = 0.25,
  e.output_digest = "00ff";
  e.again = {.repeats = 2, .repeats_equal = 2, .threads = {1, 3}, .threads_equal = {1, 3}, .rows = 2, .rows_equal = 2};
  e.outputs = {good_output()};
  return e;
}

Evidence refused() {
  Evidence e;
  e.outcome = Outcome::kRefused, e.message = "an extent is 0", e.expect_refusal = true;
  OutputFindings f;
  f.name = "y";
  e.outputs = {f};
  return e;
}

struct Row {
  const char* name;
  std::function<void(Evidence&)> change;
  CaseStatus status;
  const char* check;
  bool from_refused = false;
};

const Row kRows[] = {
    {"untouched", [](Evidence&) {}, CaseStatus::kPass, "none"},
    {"default", [](Evidence& e) { e = {}; }, CaseStatus::kNotRun, "outcome"},
    {"unsupported", [](Evidence& e) { e.outcome = Outcome::kUnsupported; }, CaseStatus::kUnsupported, "outcome"},
    {"error", [](Evidence& e) { e.outcome = Outcome::kError; }, CaseStatus::kError, "outcome"},
    {"crash", [](Evidence& e) { e.outcome = Outcome::kCrash; }, CaseStatus::kCrash, "outcome"},
    {"timeout", [](Evidence& e) { e.outcome = Outcome::kTimeout; }, CaseStatus::kTimeout, "outcome"},
    {"oom", [](Evidence& e) { e.outcome = Outcome::kOom; }, CaseStatus::kOom, "outcome"},
    {"normal_case_refused", [](Evidence& e) { e.outcome = Outcome::kRefused; }, CaseStatus::kError, "refusal"},
    {"no_kernel", [](Evidence& e) { e.kernel.clear(); }, CaseStatus::kError, "witness"},
    {"kernel_of_another_operator", [](Evidence& e) { e.kernel = "adder: cpu"; }, CaseStatus::kFail, "witness"},
    {"another_kernel_in_a_repetition", [](Evidence& e) { e.other_kernels = {"add: cpu strict"}; }, CaseStatus::kFail,
     "witness"},
    {"another_kernel_where_varying",
     [](Evidence& e) { e.other_kernels = {"add: cpu strict"}, e.declared = CONCORD_RUN_TO_RUN_VARYING; },
     CaseStatus::kPass, "none"},
    {"no_kernel_in_a_repetition", [](Evidence& e) { e.other_kernels = {""}, e.declared = CONCORD_RUN_TO_RUN_VARYING; },
     CaseStatus::kFail, "witness"},
    {"fallback", [](Evidence& e) { e.fallbacks = 1; }, CaseStatus::kFail, "fallback"},
    {"guard", [](Evidence& e) { e.outputs[0].guard_bytes = 1, e.outputs[0].guard_first = -4; }, CaseStatus::kFail,
     "guard"},
    {"input", [](Evidence& e) { e.changed_input = "gain"; }, CaseStatus::kFail, "input"},
    {"unwritten", [](Evidence& e) { e.outputs[0].unwritten = 1; }, CaseStatus::kFail, "unwritten"},
    {"nonfinite", [](Evidence& e) { e.outputs[0].nonfinite = 1; }, CaseStatus::kFail, "nonfinite"},
    {"above", [](Evidence& e) { e.outputs[0].above_rigorous = 1, e.outputs[0].margin = 2; }, CaseStatus::kFail,
     "bound"},
    {"not_exact", [](Evidence& e) { e.outputs[0].judged = "exact", e.outputs[0].above_rigorous = 1; },
     CaseStatus::kFail, "exact"},
    {"margin_contradicts_count", [](Evidence& e) { e.outputs[0].margin = 1.001; }, CaseStatus::kFail, "bound"},
    {"margin_is_nan", [](Evidence& e) { e.outputs[0].margin = std::nan(""); }, CaseStatus::kFail, "bound"},
    {"wider", [](Evidence& e) { e.outputs[0].above_probable = 3; }, CaseStatus::kMistrusted, "probable"},
    {"wider_by_margin", [](Evidence& e) { e.outputs[0].margin_probable = kInf; }, CaseStatus::kMistrusted, "probable"},
    {"degenerate", [](Evidence& e) { e.outputs[0].degenerate = true; }, CaseStatus::kMistrusted, "degenerate"},
    {"no_outputs", [](Evidence& e) { e.outputs.clear(); }, CaseStatus::kMistrusted, "degenerate"},
    {"no_elements", [](Evidence& e) { e.outputs[0].elements = 0; }, CaseStatus::kMistrusted, "degenerate"},
    {"second_output_empty", [](Evidence& e) { e.outputs.push_back(good_output()), e.outputs[1].elements = 0; },
     CaseStatus::kMistrusted, "degenerate"},
    {"second_output_wrong", [](Evidence& e) { e.outputs.push_back(good_output()), e.outputs[1].above_rigorous = 1; },
     CaseStatus::kFail, "bound"},
    {"varying", [](Evidence& e) { e.again.repeats_equal = 1; }, CaseStatus::kNondeterministic, "determinism"},
    {"varying_as_per_configuration", [](Evidence& e) { e.again.repeats_equal = 1, e.declared = 1; },
     CaseStatus::kNondeterministic, "determinism"},
    {"varying_as_declared", [](Evidence& e) { e.again.repeats_equal = 1, e.declared = 2; }, CaseStatus::kPass, "none"},
    {"threads_differ", [](Evidence& e) { e.again.threads_equal = {1}; }, CaseStatus::kNondeterministic, "determinism"},
    {"threads_differ_as_declared", [](Evidence& e) { e.again.threads_equal = {1}, e.declared = 1; }, CaseStatus::kPass,
     "none"},
    {"rows_differ", [](Evidence& e) { e.again.rows_equal = 1; }, CaseStatus::kNondeterministic, "determinism"},
    {"ran_once", [](Evidence& e) { e.again = {}; }, CaseStatus::kMistrusted, "determinism"},
    // The order: what says more about the cause decides.
    {"fallback_before_bound", [](Evidence& e) { e.fallbacks = 1, e.outputs[0].above_rigorous = 1; }, CaseStatus::kFail,
     "fallback"},
    {"guard_before_bound", [](Evidence& e) { e.outputs[0].guard_bytes = 1, e.outputs[0].above_rigorous = 1; },
     CaseStatus::kFail, "guard"},
    {"bound_before_determinism", [](Evidence& e) { e.again.repeats_equal = 0, e.outputs[0].above_rigorous = 1; },
     CaseStatus::kFail, "bound"},
    {"refused_as_expected", [](Evidence&) {}, CaseStatus::kPass, "none", true},
    {"executed_instead", [](Evidence& e) { e.outcome = Outcome::kCompleted; }, CaseStatus::kFail, "refusal", true},
    {"refused_but_wrote", [](Evidence& e) { e.outputs[0].above_rigorous = 1; }, CaseStatus::kFail, "refusal", true},
    {"refused_but_guards_gone", [](Evidence& e) { e.outputs[0].guard_bytes = 3; }, CaseStatus::kFail, "refusal", true},
    {"refused_but_input_changed", [](Evidence& e) { e.changed_input = "gain"; }, CaseStatus::kFail, "refusal", true},
    {"refused_unseen", [](Evidence& e) { e.outputs.clear(); }, CaseStatus::kMistrusted, "refusal", true},
    {"refused_as_unsupported", [](Evidence& e) { e.outcome = Outcome::kUnsupported; }, CaseStatus::kUnsupported,
     "outcome", true},
};

TEST(Decide, EveryKindOfEvidence) {
  for (const Row& row : kRows) {
    SCOPED_TRACE(row.name);
    Evidence e = row.from_refused ? refused() : good();
    row.change(e);
    const Decision d = decide(spec(), e);
    EXPECT_STREQ(status_name(d.status), status_name(row.status)) << d.reason;
    EXPECT_EQ(d.check, row.check) << d.reason;
    EXPECT_FALSE(d.reason.empty());
  }
}

TEST(Decide, TheWitnessMustMatchThePatternAndNameTheOperator) {
  EXPECT_EQ(decide(spec(), good(), "add: cpu strict* | add: cpu avx2*").status, CaseStatus::kPass);
  EXPECT_EQ(decide(spec(), good(), "add: cpu strict*").check, "witness");
  EXPECT_EQ(decide(spec(), good(), " | ").check, "witness") << "a pattern of nothing matches nothing";
  Evidence other = good();
  other.kernel = "mul: cpu avx2";
  EXPECT_EQ(decide(spec(), other, "*: cpu avx2*").check, "witness") << "a pattern does not excuse another operator's kernel";
  other = good();
  other.declared = 17;
  EXPECT_EQ(decide(spec(), other).status, CaseStatus::kError) << "no class of the ABI";
}

TEST(Decide, SaysWhere) {
  Evidence e = good();
  e.outputs[0].above_rigorous = 2, e.outputs[0].margin = 17, e.outputs[0].first = e.outputs[0].worst;
  EXPECT_THAT(decide(spec(), e).reason, HasSubstr("2 of 8 elements of y"));
  EXPECT_THAT(decide(spec(), e).reason, HasSubstr("[1,1] is 1.5 instead of 1.25"));
  e.outputs[0].guard_bytes = 2, e.outputs[0].guard_first = -4;
  EXPECT_THAT(decide(spec(), e).reason, HasSubstr("the first 4 bytes before it"));
}

TEST(EvidenceJson, EveryFieldSurvives) {
  Evidence e = good();
  e.message = "words", e.other_kernels = {"add: other"}, e.fallbacks = 7, e.declared = 2, e.changed_input = "gain",
  e.expect_refusal = true;
  e.seconds = 0.1;
  OutputFindings& f = e.outputs[0];
  f.guard_bytes = 3, f.guard_first = -9, f.unwritten = 1, f.nonfinite = 2, f.above_rigorous = 4, f.above_probable = 5,
  f.degenerate = true;
  f.max_error = kInf, f.margin = 1.0 / 3, f.margin_probable = 5e-324;
  f.first = {.index = 3, .at = {0, 3}, .got = -kInf, .want = std::nan(""), .rigorous = 0, .probable = -0.0};
  const std::string text = to_json(e).dump();
  const Json json = Json::parse(text);
  const auto back = evidence_from_json(*JsonFields::from(json, "f", "record"));
  ASSERT_TRUE(back) << back.error().to_string();
  EXPECT_EQ(to_json(*back).dump(), text);
  EXPECT_EQ(back->outputs[0].margin, 1.0 / 3);
  EXPECT_EQ(back->outputs[0].first.got, -kInf);
  EXPECT_TRUE(std::isnan(back->outputs[0].first.want));
  EXPECT_TRUE(std::signbit(back->outputs[0].first.probable));
  EXPECT_EQ(back->again.threads_equal, e.again.threads_equal);
}

TEST(EvidenceJson, IsReadStrictly) {
  const OrderedJson whole = to_json(good());
  const auto code_of = [](const Json& j) {
    const auto e = evidence_from_json(*JsonFields::from(j, "f", "record"));
    return e ? std::string("accepted") : e.error().code;
  };
  ASSERT_EQ(code_of(Json(whole)), "accepted");
  for (const auto& [key, value] : whole.items()) {
    Json j = whole;
    j.erase(key);
    EXPECT_EQ(code_of(j), "record.missing_field") << key;
  }
  struct Bad {
    const char *pointer, *value, *code;
  };
  const Bad kBad[] = {{"/extra", "1", "record.unknown_field"},
                      {"/outcome", "\"fine\"", "record.unknown_outcome"},
                      {"/fallbacks", "-1", "record.out_of_range"},
                      {"/seconds", "\"infinite\"", "record.wrong_type"},
                      {"/outputs/0/extra", "1", "record.unknown_field"},
                      {"/outputs/0/elements", "1.5", "record.wrong_type"},
                      {"/outputs/0/degenerate", "0", "record.wrong_type"},
                      {"/outputs/0/first/at", "[-1]", "record.out_of_range"},
                      {"/again/threads", "7", "record.wrong_type"}};
  for (const Bad& b : kBad) {
    Json j = whole;
    j[Json::json_pointer(b.pointer)] = Json::parse(b.value);
    EXPECT_EQ(code_of(j), b.code) << b.pointer;
  }
}

CaseRecord record() {
  CaseRecord r;
  r.id = kId, r.device = "cpu:avx2", r.family = "activation", r.status = CaseStatus::kPass, r.check = "none",
  r.reason = "every check passed";
  r.evidence = good();
  r.body = {{"tier", "smoke"}, {"facts", {{"name", "a processor"}}}};
  return r;
}

TEST(CaseJournal, RecordsSurvive) {
  const std::string line = record().to_line();
  const auto back = CaseRecord::from_line(line, "f", 1);
  ASSERT_TRUE(back) << back.error().to_string();
  EXPECT_EQ(back->key(), std::string("cpu:avx2 ") + kId);
  EXPECT_EQ(back->body["tier"], "smoke");
  EXPECT_EQ(CaseRecord::from_line(back->to_line(), "f", 1)->to_line(), back->to_line());
  EXPECT_EQ(Json::parse(back->to_line()), Json::parse(line));
}

TEST(CaseJournal, ATornLastLineIsLeftOut) {
  const std::string line = record().to_line();
  const auto journal = parse_case_journal(line + "\n\n" + line + "\n" + line.substr(0, 40), "f");
  ASSERT_TRUE(journal);
  EXPECT_TRUE(journal->partial);
  EXPECT_EQ(journal->records.size(), 2u);
  EXPECT_FALSE(parse_case_journal(line + "\n", "f")->partial);
}

TEST(CaseJournal, WhatIsMalformedIsNamed) {
  const Json whole = Json::parse(record().to_line());
  struct Bad {
    const char *pointer, *value, *code;
  };
  const Bad kBad[] = {{"/schema", "\"concord.case/2\"", "record.schema_version"},
                      {"/id", "\"add/R=2,N=4\"", "case.not_canonical"},
                      {"/status", "\"FINE\"", "record.unknown_status"},
                      {"/waiver_expired", "\"no\"", "record.wrong_type"},
                      {"/evidence", "[]", "record.wrong_type"},
                      {"/evidence/outcome", "\"x\"", "record.unknown_outcome"}};
  for (const Bad& b : kBad) {
    Json j = whole;
    j[Json::json_pointer(b.pointer)] = Json::parse(b.value);
    const auto journal = parse_case_journal(record().to_line() + "\n" + j.dump() + "\n", "cases.jsonl");
    ASSERT_FALSE(journal) << b.pointer;
    EXPECT_EQ(journal.error().code, b.code) << b.pointer;
    EXPECT_THAT(journal.error().message, HasSubstr("line 2"));
    EXPECT_EQ(journal.error().file, "cases.jsonl");
  }
  EXPECT_EQ(parse_case_journal("{\n", "f").error().code, "record.syntax");
  EXPECT_EQ(parse_case_journal("{\"schema\":\"concord.record/1\"}\n", "f").error().code, "record.schema_version");
}

}  // namespace
}  // namespace concord::conformance
