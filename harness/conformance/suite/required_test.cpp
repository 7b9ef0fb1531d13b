#include "conformance/suite/required.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "digest/digest.hpp"

namespace concord::conformance {
namespace {

const std::vector<std::string> kIds = {"add/N=1,R=1,in=exact,place=0,x=f32", "add/N=15,R=1,in=exact,place=0,x=f32", "argmax/T=1,V=3,in=exact,x=bf16"};

RequiredList sample() {
  RequiredList list;
  list.devices = {"cpu:avx2", "cuda:*"}, list.tier = Tier::kSmoke, list.witness = "*: cpu {variant} *", list.ids = kIds;
  return list;
}
std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return at == std::string::npos ? text : text.replace(at, from.size(), to);
}

TEST(RequiredList, IsReadAsItWasWritten) {
  const std::string text = sample().to_text();
  const RequiredList list = RequiredList::parse(text, "folder/cpu-smoke.lock").value();
  EXPECT_EQ(list.name, "cpu-smoke");
  EXPECT_EQ(list.ids, kIds);
  EXPECT_EQ(list.witness, "*: cpu {variant} *");
  EXPECT_EQ(list.digest, ids_digest(kIds));
  EXPECT_EQ(list.to_text(), text);
}

TEST(RequiredList, DigestIsOfTheIdsAndNewlines) {
  EXPECT_EQ(ids_digest({"a", "b"}), sha256_hex("a\nb\n"));
  EXPECT_EQ(ids_digest({"a", "b"}), "911169ddaaf146aff539f58c26c489af3b892dff0fe283c1c264c65ae5aa59a2");  // sha256sum
  EXPECT_NE(ids_digest({"ab"}), ids_digest({"a", "b"}));
}

TEST(RequiredList, CoversDevicesByNameOrLastPart) {
  const RequiredList list = sample();
  EXPECT_TRUE(list.covers("cpu:avx2"));
  EXPECT_TRUE(list.covers("cuda:0"));
  EXPECT_FALSE(list.covers("cpu:avx512"));
  EXPECT_FALSE(list.covers("cpu"));
  EXPECT_FALSE(list.covers("cuda"));
  EXPECT_FALSE(list.covers("cudax:0"));
}

TEST(RequiredList, AStarIsOnePartSoThatVariantsHaveListsOfTheirOwn) {
  RequiredList fast = sample(), portable = sample();
  fast.devices = {"cuda:*"}, fast.name = "cuda", portable.devices = {"cuda:*:portable"}, portable.name = "cuda-portable";
  const std::vector<RequiredList> lists{fast, portable};
  for (const auto& [device, list] : {std::pair{"cuda:0", "cuda"}, {"cuda:7", "cuda"}, {"cuda:0:portable", "cuda-portable"}, {"cuda:1:portable", "cuda-portable"}})
    EXPECT_EQ(required_for(lists, device, Tier::kSmoke).value().value_or(sample()).name, list) << device;
  for (const char* device : {"cuda:0:tf32", "cuda", "hip:0:portable"}) EXPECT_FALSE(required_for(lists, device, Tier::kSmoke).value()) << device;
}

TEST(RequiredList, VariantIsWhatFollowsTheLastColon) {
  for (const auto& [device, witness] : {std::pair{"cpu:avx2", "*: cpu avx2 *"}, {"cuda:0:portable", "*: cpu portable *"}, {"reference", "*: cpu reference *"}})
    EXPECT_EQ(sample().witness_for(device), witness);
}

TEST(RequiredList, RefusesWhatIsNotExactlyAList) {
  const std::string good = sample().to_text();
  const std::string swapped = replaced(replaced(replaced(good, kIds[0] + "\n", "@\n"), kIds[1] + "\n", kIds[0] + "\n"), "@\n", kIds[1] + "\n");
  const std::pair<std::string, const char*> kWrong[] = {
      {"", "lock.syntax"},
      {replaced(good, "version 1", "version 2"), "lock.version"},
      {"\n" + good, "lock.version"},
      {replaced(good, "devices ", "device "), "lock.syntax"},
      {replaced(good, "cpu:avx2 cuda:*", "cpu:avx2  cuda:*"), "lock.syntax"},
      {replaced(good, "cpu:avx2 cuda:*", "*"), "lock.syntax"},
      {replaced(good, "cpu:avx2 cuda:*", "c*:avx2"), "lock.syntax"},
      {replaced(good, "cpu:avx2 cuda:*", "*:avx2"), "lock.syntax"},
      {replaced(good, "cpu:avx2 cuda:*", "cuda:**"), "lock.syntax"},
      {replaced(good, "cpu:avx2 cuda:*", "cuda:0*"), "lock.syntax"},
      {replaced(good, "cpu:avx2 cuda:*", "cuda:*x:portable"), "lock.syntax"},
      {replaced(good, "cpu:avx2 cuda:*", "cuda::portable"), "lock.syntax"},
      {replaced(good, "cpu:avx2 cuda:*", "cuda:"), "lock.syntax"},
      {replaced(good, "cpu:avx2 cuda:*", ":0"), "lock.syntax"},
      {replaced(good, "cpu:avx2 cuda:*", "CUDA:0"), "lock.syntax"},
      {replaced(good, "cpu:avx2 cuda:*", "cuda:" + std::string(60, '0')), "lock.syntax"},
      {replaced(good, "cpu:avx2 cuda:*", "cpu:avx2 cpu:avx2"), "lock.duplicate"},
      {replaced(good, "cpu:avx2 cuda:*", "cuda:* cuda:*"), "lock.duplicate"},
      {replaced(good, "tier smoke", "tier quick"), "lock.syntax"},
      {replaced(good, "*: cpu {variant} *", "*: cpu* | *"), "lock.witness"},
      {replaced(good, "*: cpu {variant} *", "*: * * *"), "lock.witness"},
      {replaced(good, "*: cpu {variant} *", "*{variant}*"), "lock.witness"},
      {replaced(good, "witness *: cpu {variant} *", "witness "), "lock.syntax"},
      {replaced(good, "witness *: cpu", "witness " + std::string(600, 'a')), "lock.witness"},
      {replaced(good, "count 3", "count 03"), "lock.count"},
      {replaced(good, "count 3", "count 0"), "lock.count"},
      {replaced(good, "count 3", "count 2"), "lock.count"},
      {replaced(good, "count 3", "count 4"), "lock.count"},
      {replaced(good, "count 3", "count 99999999999999999999"), "lock.count"},
      {replaced(good, "sha256 ", "sha256 0"), "lock.digest"},
      {replaced(good, "N=15", "N=16"), "lock.digest"},
      {replaced(good, "x=bf16", "x=f16"), "lock.digest"},
      {good.substr(0, good.size() - 1), "lock.syntax"},
      {good + "\n", "lock.count"},
      {good + kIds[2] + "\n", "lock.count"},
      {swapped, "lock.order"},
      {replaced(good, kIds[1], kIds[0]), "lock.duplicate"},
      {replaced(good, "N=15,R=1", "R=1,N=15"), "lock.bad_id"},
      {replaced(good, kIds[0], "no id"), "lock.bad_id"},
      {replaced(good, "add/", "add/\r"), "lock.bad_id"},
      {replaced(good, "devices ", "devices " + std::string(5000, 'a')), "lock.syntax"},
  };
  for (const auto& [text, code] : kWrong) {
    const auto list = RequiredList::parse(text, "f.lock");
    ASSERT_FALSE(list) << text;
    EXPECT_EQ(list.error().code, code) << list.error().message << "\n" << text.substr(0, 400);
    EXPECT_EQ(list.error().kind, ErrorKind::kBadInput);
    EXPECT_EQ(list.error().file, "f.lock");
  }
}

TEST(RequiredList, OneListPerDeviceAndTier) {
  RequiredList other = sample();
  other.devices = {"cuda:0"}, other.name = "other";
  EXPECT_EQ(required_for({sample(), other}, "cuda:0", Tier::kSmoke).error().code, "lock.ambiguous");
  EXPECT_TRUE(required_for({sample(), other}, "cuda:1", Tier::kSmoke).value().has_value());
  EXPECT_FALSE(required_for({sample(), other}, "cuda:1", Tier::kFull).value().has_value());
  EXPECT_FALSE(required_for({}, "cuda:1", Tier::kSmoke).value().has_value());
}

TEST(RequiredList, FoldersAreReadWhole) {
  const std::filesystem::path folder = std::filesystem::path(testing::TempDir()) / ("concord_required_test_" + std::to_string(::getpid()));
  std::filesystem::remove_all(folder);
  EXPECT_TRUE(load_required(folder.string()).value().empty());  // a folder that is missing requires nothing
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "README.md") << "not a list";
  std::ofstream(folder / "b.lock") << sample().to_text();
  std::ofstream(folder / "a.lock") << sample().to_text();
  const auto lists = load_required(folder.string()).value();
  ASSERT_EQ(lists.size(), 2u);
  EXPECT_EQ(lists[0].name, "a");
  std::ofstream(folder / "c.lock") << "broken";
  EXPECT_FALSE(load_required(folder.string()));
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace concord::conformance
