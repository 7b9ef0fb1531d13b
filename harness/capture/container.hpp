// The safetensors container of a capture, as views into its bytes. Not for other floors.
#pragma once
#include <map>
#include <span>
#include <string>

#include "base/error.hpp"
#include "base/json.hpp"
#include "base/tensor.hpp"

namespace concord {

struct StoredTensor {
  std::string dtype;  // safetensors token
  Shape shape;
  std::span<const std::byte> bytes;
};
struct Container {
  Json metadata = Json::object();
  std::map<std::string, StoredTensor> tensors;
};

// Errors: those of the safetensors reader. The views live as long as `bytes`.
Result<Container> read_container(std::span<const std::byte> bytes, const std::string& file);

}  // namespace concord
