// Device ids as text, and what the loader makes of them where there are several devices of a kind.
#include "device/device_id.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "device/device.hpp"

namespace concord {
namespace {

using ::testing::HasSubstr;

TEST(DeviceIds, PatternsAreMatchedPartByPart) {
  struct {
    const char *pattern, *id;
    bool matches;
  } const kRows[] = {
      {"cuda:*", "cuda:0", true},
      {"cuda:*", "cuda:17", true},
      {"cuda:*", "cuda:0:portable", false},
      {"cuda:*", "cuda", false},
      {"cuda:*", "cudax:0", false},
      {"cuda:*:portable", "cuda:0:portable", true},
      {"cuda:*:portable", "cuda:1:tf32", false},
      {"cuda:*:portable", "cuda:0", false},
      {"cuda:0:*", "cuda:0:tf32", true},
      {"cuda:0:*", "cuda:1:tf32", false},
      {"cuda:*:*", "cuda:1:tf32", true},
      {"cpu:*", "cpu:avx2", true},
      {"cpu:avx*", "cpu:avx2", false},
      {"cpu:avx2", "cpu:avx2", true},
      {"cpu:avx2", "cpu:avx512", false},
      {"reference", "reference", true},
      {"*", "reference", true},
      {"cpu:", "cpu", false},
  };
  for (const auto& row : kRows)
    EXPECT_EQ(matches_device(row.pattern, row.id), row.matches) << row.pattern << " " << row.id;
  EXPECT_TRUE(is_device_pattern("cuda:*:portable"));
  EXPECT_FALSE(is_device_pattern("cuda:0")) << "an id is no pattern";
  EXPECT_FALSE(is_device_pattern("cuda:0*")) << "a star within a part stands for nothing";
}

TEST(DeviceIds, KindIsTheIdWithoutItsIndex) {
  EXPECT_EQ(device_kind("cuda:0"), "cuda");
  EXPECT_EQ(device_kind("cuda:12:portable"), "cuda:portable");
  EXPECT_EQ(device_kind("cpu:avx2"), "cpu:avx2");
  EXPECT_EQ(device_kind("reference"), "reference");
  EXPECT_EQ(device_kind("cuda:0:1"), "cuda:1") << "only the part behind the backend is an index";
}

TEST(DeviceIds, ABackendAndVariantMeanTheFirstDeviceOfThatVariant) {
  const std::vector<std::string> ids{"cpu:avx2", "cuda:0", "cuda:0:portable", "cuda:1:tf32", "odd:x", "odd:0:x"};
  EXPECT_EQ(expand_device_id("cuda:portable", ids), "cuda:0:portable");
  EXPECT_EQ(expand_device_id("cuda:tf32", ids), "cuda:tf32") << "index 0 has none";
  EXPECT_EQ(expand_device_id("odd:x", ids), "odd:x") << "an id that exists means itself";
  for (const char* itself : {"cuda:0", "cuda:0:portable", "cuda", "cuda:", "", "cpu:avx2", "cuda:7"})
    EXPECT_EQ(expand_device_id(itself, ids), itself);
}

TEST(DeviceIds, TheLoaderResolvesThem) {
  const Backends b = Backends::discover({CONCORD_BINARY_DIR "/test_plugins/twin"});
  for (const auto& [name, id] : {std::pair{"twin", "twin:0"},
                                 {"twin:0", "twin:0"},
                                 {"twin:1", "twin:1"},
                                 {"twin:portable", "twin:0:portable"},
                                 {"twin:1:portable", "twin:1:portable"}})
    EXPECT_EQ(b.resolve(name).value_or("nothing"), id) << name;
  EXPECT_EQ(b.open("twin:portable").value().facts().id, "twin:0:portable");
  const Error lost = b.resolve("twin:lost").error();
  EXPECT_EQ(lost.code, "device.unavailable");
  EXPECT_THAT(lost.message, HasSubstr("device twin:0:lost is not available: it is lost"));
  EXPECT_THAT(b.resolve("twin:4").error().message, HasSubstr("it fell off the bus"));
  for (const char* name : {"twin:9", "twin:tf32", "twin:", "twin:0:", "twin:*"}) {
    const Error e = b.resolve(name).error();
    EXPECT_EQ(e.code, "device.unknown") << name;
    EXPECT_THAT(e.message, HasSubstr("found: twin:0, twin:0:portable, twin:0:lost, twin:1")) << name;
  }
}

}  // namespace
}  // namespace concord
