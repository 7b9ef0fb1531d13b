// `concord list` and `concord plan` as a user meets them. Each row is a command line, the exit code and what must be printed.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <ostream>
#include <string>

#include "program.hpp"

namespace {
using namespace cli_test;

class ListAndPlan : public testing::TestWithParam<Row> {};

TEST_P(ListAndPlan, EndAsDocumented) { expect_row(GetParam()); }

INSTANTIATE_TEST_SUITE_P(
    Rows, ListAndPlan,
    testing::Values(Row{"list", 0, "matmul/K=257,M=1,N=64,"}, Row{"list --op rope --json", 0, "concord.cases/1"}, Row{"list --operators --op softmax", 0, "5*R*N"},
                    Row{"list --operators --op conv", 5, "select.nothing"}, Row{"list --tier quick", 2, "case.unknown_tier"}, Row{"list --family x", 2, "select.unknown_family"},
                    Row{"list --op x", 2, "select.unknown_operator"}, Row{"list -p zzz", 5, "select.nothing"}, Row{"list -p '('", 2, "select.bad_pattern"},
                    Row{"list -a K", 2, "select.bad_axis"}, Row{"list --op matmul -a 'K[pow2]=[0:4:2]' -a M=3 -p 'in=exact,place=0,w=f32,x=f32'", 0, "matmul/K=16,M=3,"},
                    Row{"list -a 'x=[bf16,bf61]'", 2, "select.unused_value"}, Row{"list --case nonsense", 2, "case.syntax"},
                    Row{"list --case add/R=1,N=1,in=exact,place=0,x=f32", 2, "write add/N=1,R=1,in=exact,place=0,x=f32"},
                    Row{"list --case add/N=12345,R=1,in=exact,place=0,x=f32", 0, "add/N=12345"}, Row{"plan --backends cpu:strict --op rope", 0, "cpu:strict"},
                    Row{"plan --backends cpu --op rope --json", 0, "concord.plan/1"}, Row{"plan --backends tpu", 3, "device.unknown"},
                    Row{"plan --backends 'tpu:*'", 3, "device.unknown"}, Row{"plan --backends cpu:strict --lock x", 2, "plan.no_witness"},
                    Row{"plan --backends cpu:strict --lock x --witness '*: cpu *' --op rope", 2, "plan.partial_list"},
                    Row{"plan --backends cpu:strict --lock ../x --witness '*: cpu *'", 2, "plan.bad_name"}, Row{"plan --backends cpu:strict --lock x --witness '*'", 2, "lock.witness"}));

class Lists : public Scratch {};

TEST_F(Lists, AListIsWrittenAndThenRequired) {
  const std::filesystem::path suites = at("suites");
  std::filesystem::create_directories(suites);
  std::filesystem::copy(CONCORD_SOURCE_DIR "/suites/ops", suites / "ops", std::filesystem::copy_options::recursive);
  const std::string program = "plan --backends cpu:strict";
  ::setenv("CONCORD_SUITES", suites.c_str(), 1);
  const Outcome none = concord(program), made = concord(program + " --lock strict-smoke --witness '*: cpu {variant} *'"), then = concord(program + " --op rope");
  ::unsetenv("CONCORD_SUITES");
  EXPECT_NE(none.output.find("no required list"), std::string::npos) << none.output;
  EXPECT_EQ(made.exit, 0) << made.output;
  EXPECT_TRUE(std::filesystem::exists(suites / "required/strict-smoke.lock"));
  EXPECT_NE(then.output.find("required by strict-smoke"), std::string::npos) << then.output;
  EXPECT_NE(then.output.find("are not in this plan"), std::string::npos) << then.output;
}

}  // namespace
