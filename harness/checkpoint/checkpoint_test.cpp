#include "checkpoint/checkpoint.hpp"

#include <gtest/gtest.h>

namespace concord {
namespace {

TEST(Checkpoint, OpensEveryGoldenModel) {
  const std::filesystem::path models = CONCORD_SOURCE_DIR "/fixtures/golden/models";
  for (const char* name : {"llama-default", "llama-sharded", "qwen2-tied-bias", "qwen3-headdim"}) {
    const auto checkpoint = Checkpoint::open(models / name);
    ASSERT_TRUE(checkpoint) << checkpoint.error().to_string();
    const TensorInfo* embedding = (*checkpoint)->find("model.embed_tokens.weight");
    ASSERT_NE(embedding, nullptr) << name;
    EXPECT_EQ(embedding->shape[0], 96);
    std::vector<float> values(embedding->elements);
    EXPECT_TRUE((*checkpoint)->read_f32(*embedding, 0, embedding->elements, values.data()));
  }
}

}  // namespace
}  // namespace concord
