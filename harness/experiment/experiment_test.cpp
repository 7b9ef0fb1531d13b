#include "experiment/experiment.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <set>

namespace concord {
namespace {

using Layers = std::vector<std::int64_t>;
using Positions = std::vector<std::int32_t>;

TEST(CapturePlan, DefaultIsEveryEighthLayerTheLastStreamAndTheFinalNorm) {
  EXPECT_EQ(*CapturePlan{}.resolve_layers(18), (Layers{0, 8, 16, 17, 18}));
  EXPECT_EQ(*CapturePlan{}.resolve_layers(30), (Layers{0, 8, 16, 24, 29, 30}));
  EXPECT_EQ(*CapturePlan{}.resolve_layers(1), (Layers{0, 1}));
}

TEST(CapturePlan, PositionsAreThoseThatProduceTheGeneratedTokens) {
  EXPECT_EQ(*CapturePlan{}.resolve_positions(5, 3), (Positions{4, 5, 6}));  // states at 4, 5, 6 produce tokens 5, 6, 7
  EXPECT_EQ(*(CapturePlan{.positions = "all"}.resolve_positions(2, 2)), (Positions{0, 1, 2}));
  EXPECT_EQ(*(CapturePlan{.positions = "last:2"}.resolve_positions(5, 3)), (Positions{5, 6}));
  EXPECT_EQ(*(CapturePlan{.positions = "every:3"}.resolve_positions(5, 3)), (Positions{0, 3, 6}));
  EXPECT_EQ(*(CapturePlan{.positions = "6,1"}.resolve_positions(5, 3)), (Positions{1, 6}));
}

TEST(CapturePlan, RefusesWhatTheModelOrWorkloadDoesNotHave) {
  for (const char* bad : {"", "x", "every:0", "every:-1", "19", "1,,2", "-1", "every:99999999999999999999"})
    EXPECT_EQ((CapturePlan{.layers = bad}.resolve_layers(18).error().code), "plan.bad_layers") << bad;
  for (const char* bad : {"", "7", "last:0", "1;2", "generated "})
    EXPECT_EQ((CapturePlan{.positions = bad}.resolve_positions(5, 3).error().code), "plan.bad_positions") << bad;
}

ExperimentSpec experiment(const char* id, bool cross, std::size_t verifiers) {
  ExperimentSpec e;
  e.id = id;
  e.cross = cross;
  e.verifiers.resize(verifiers);
  return e;
}

TEST(PlanCases, SamePairsAndCrossPairsAndUniqueIds) {
  RunSettings s;
  s.devices = {"cpu:a", "cpu:b", "cpu:c"};
  s.workloads.resize(2);
  s.workloads[0].id = "short";
  s.workloads[1].id = "long";
  s.trials = 2;
  const auto same = plan_cases({experiment("e1", false, 3)}, s);
  EXPECT_EQ(same.size(), 3u * 2 * 2 * 3);
  const std::vector<ExperimentSpec> cross{experiment("e2", true, 1)};
  const auto ordered = plan_cases(cross, s);
  EXPECT_EQ(ordered.size(), 6u * 2 * 2);
  std::set<std::string> ids;
  for (const PlannedCase& c : ordered) EXPECT_TRUE(ids.insert(c.id).second) << c.id;
  s.devices = {"cpu:a"};
  EXPECT_TRUE(plan_cases(cross, s).empty());  // one device cannot be heterogeneous: nothing to run, and nothing to be green about
}

TEST(PlanCases, UnitsOfAPoolGoRoundItsMembersAndAreJudgedByTheNext) {
  RunSettings s;
  s.devices = {"g:0", "cpu:a"};
  s.pool = {"g:0", "g:1", "g:2"};
  s.workloads.resize(2);
  s.workloads[0].id = "short";
  s.workloads[1].id = "long";
  s.trials = 2;
  const std::vector<ExperimentSpec> experiments{experiment("e1", false, 2), experiment("e2", true, 1)};
  const auto cases = plan_cases(experiments, s);
  const auto placed = [&](const std::string& id) {
    const auto c = std::ranges::find(cases, id, &PlannedCase::id);
    return c == cases.end() ? "no case" : c->prover_on + ">" + c->verifier_on + " " + std::to_string(c->track);
  };
  EXPECT_EQ(cases.size(), 2u * 4 * 2 + 2 * 4);
  EXPECT_EQ(placed("e1/g:0>g:0/short/t0/v0"), "g:0>g:1 0");
  EXPECT_EQ(placed("e1/g:0>g:0/short/t0/v1"), "g:0>g:1 0") << "all verifiers of a unit have its place";
  EXPECT_EQ(placed("e1/g:0>g:0/short/t1/v0"), "g:1>g:2 1");
  EXPECT_EQ(placed("e1/g:0>g:0/long/t0/v0"), "g:2>g:0 2");
  EXPECT_EQ(placed("e1/g:0>g:0/long/t1/v0"), "g:0>g:1 0");
  EXPECT_EQ(placed("e2/g:0>cpu:a/long/t0/v0"), "g:2>cpu:a 2");
  EXPECT_EQ(placed("e2/cpu:a>g:0/long/t0/v0"), "cpu:a>g:2 2");
  EXPECT_EQ(placed("e1/cpu:a>cpu:a/long/t0/v0"), "cpu:a>cpu:a 3") << "what needs no member has a track of its own";
  s.pool.clear();
  for (const PlannedCase& c : plan_cases(experiments, s))
    EXPECT_TRUE(c.track == 0 && c.prover_on == c.prover && c.verifier_on == c.verifier) << c.id;
}

TEST(JudgeTokens, CountsMarginsAndNeverAcceptsNothing) {
  const double inf = std::numeric_limits<double>::infinity();
  const TokenResult t = judge_tokens({{1, 0.0, 0}, {2, 0.4, 1}, {3, inf, 99}}, {1, 5, 6}, 0.5, 0.6);
  EXPECT_EQ(t.tokens, 3);
  EXPECT_EQ(t.within, 2);
  EXPECT_EQ(t.equal, 1);
  EXPECT_EQ(t.rank_max, 99);
  EXPECT_DOUBLE_EQ(t.margin_mean, 0.2);
  EXPECT_TRUE(t.accepted);
  EXPECT_FALSE(judge_tokens({}, {}, 1, 0).accepted);
  EXPECT_FALSE(judge_tokens({{1, 0.6, 1}}, {2}, 0.5, 1).accepted);
}

Record record(const char* id) {
  return {.id = id, .experiment = "exp1", .status = CaseStatus::kPass, .reason = "rule", .body = {{"expect", "accept"}, {"x", 0.1}}};
}

TEST(Records, SurviveTheRoundTripAndTheTornLastLine) {
  const std::string text = record("a").to_line() + "\n" + record("b").to_line() + "\n";
  const auto whole = parse_journal(text, "f");
  ASSERT_TRUE(whole) << whole.error().to_string();
  ASSERT_EQ(whole->records.size(), 2u);
  EXPECT_FALSE(whole->partial);
  EXPECT_EQ(whole->records[1].to_line(), record("b").to_line());
  const auto torn = parse_journal(text.substr(0, text.size() - 5), "f");
  ASSERT_TRUE(torn);
  EXPECT_EQ(torn->records.size(), 1u);
  EXPECT_TRUE(torn->partial);
}

TEST(Records, AreRefusedByName) {
  const std::pair<std::string, const char*> cases[] = {
      {R"({"schema":"concord.record/2","id":"a","experiment":"e","reason":"","status":"PASS"})", "record.schema_version"},
      {R"({"id":"a"})", "record.missing_field"},
      {R"({"schema":"concord.record/1","id":7,"experiment":"e","reason":"","status":"PASS"})", "record.wrong_type"},
      {R"({"schema":"concord.record/1","id":"a","experiment":"e","reason":"","status":"GREEN"})", "record.unknown_status"},
      {R"({"schema":"concord.record/1","id":"a","id":"b"})", "record.duplicate_key"},
      {"nonsense", "record.syntax"},
  };
  for (const auto& [line, code] : cases) {
    const auto r = parse_journal(line + "\n", "f.jsonl");
    ASSERT_FALSE(r) << line;
    EXPECT_EQ(r.error().code, code);
    EXPECT_NE(r.error().message.find("line 1"), std::string::npos);
  }
}

TEST(WorkerProtocol, RequestsAndOutcomesSurviveTheRoundTrip) {
  RunRequest r;
  r.workload.file = "w.json";
  r.workload.id = "short";
  r.workload.tokens = {1, 2, 3};
  r.workload.new_tokens = 2;
  r.workload.sampler = {.kind = SamplerSpec::Kind::kSample, .temperature = 0.7, .top_k = 40, .top_p = 0.9, .seed = 12345678901234567890u};
  r.generated = {4, 5};
  r.nonce = "00ff";
  r.companions = {{7, 8, 9}, {6}};
  r.chunk = 7;
  r.out = "/tmp/x";
  const auto back = request_from_json(*parse_json(to_json("prove", r).dump(), "f"));
  ASSERT_TRUE(back) << back.error().to_string();
  EXPECT_EQ(back->workload.digest(), r.workload.digest());
  EXPECT_EQ(back->workload.sampler.seed, r.workload.sampler.seed);
  EXPECT_EQ(back->generated, r.generated);
  EXPECT_EQ(back->companions, r.companions);
  EXPECT_EQ(back->chunk, 7);
  RunOutcome o{.tokens = {1, 2}, .margins = {{3, std::numeric_limits<double>::infinity(), 9}}, .logit_top = {0.1f}, .root = "ab", .prefill_seconds = 0.1};
  const auto outcome = outcome_from_json(*parse_json(to_json(o).dump(), "f"));
  ASSERT_TRUE(outcome) << outcome.error().to_string();
  EXPECT_TRUE(std::isinf(outcome->margins[0].margin));
  EXPECT_EQ(outcome->prefill_seconds, 0.1);
  EXPECT_EQ(outcome->logit_top[0], 0.1f);
}

TEST(Suites, TheFiveExperimentsLoadAndTyposAreRefused) {
  const bool expected[] = {true, true, false, false, false};
  for (int i = 1; i <= 5; ++i) {
    const auto e = ExperimentSpec::load("exp" + std::to_string(i));
    ASSERT_TRUE(e) << e.error().to_string();
    EXPECT_EQ(e->expect_accept, expected[i - 1]);
    EXPECT_EQ(e->verifiers.size(), 3u);
    EXPECT_EQ(e->cross, i == 2 || i == 4);
  }
  EXPECT_EQ(ExperimentSpec::load("exp9").error().code, "file.not_found");
}

}  // namespace
}  // namespace concord
