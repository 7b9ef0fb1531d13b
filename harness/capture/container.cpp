#include "capture/container.hpp"

#include <fmt/format.h>

#include "base/dtype.hpp"
#include "base/text.hpp"

namespace concord {
namespace {

Status read_tensor(const std::string& name, const JsonFields& fields, std::span<const std::byte> data, Container& out) {
  StoredTensor tensor;
  CONCORD_TRY(tensor.dtype, fields.string("dtype"));
  CONCORD_TRY(tensor.shape, fields.integers("shape", 0, std::int64_t{1} << 40));
  CONCORD_TRY(const auto offsets, fields.integers("data_offsets", 0, static_cast<std::int64_t>(data.size())));
  const auto dtype = dtype_from_name(tensor.dtype);
  std::uint64_t elements = 1;
  for (const std::int64_t d : tensor.shape)
    if (__builtin_mul_overflow(elements, static_cast<std::uint64_t>(d), &elements))
      return fields.error("overflow", fmt::format("shape of \"{}\" overflows", printable(name)));
  if (!dtype || offsets.size() != 2 || offsets[1] < offsets[0] || elements > data.size() ||
      elements * dtype_bits(*dtype) != static_cast<std::uint64_t>(offsets[1] - offsets[0]) * 8)
    return fields.error("bad_tensor", fmt::format("dtype, shape and offsets of \"{}\" do not agree", printable(name)));
  tensor.bytes = data.subspan(static_cast<std::size_t>(offsets[0]), static_cast<std::size_t>(offsets[1] - offsets[0]));
  out.tensors.emplace(name, std::move(tensor));
  return {};
}

}  // namespace

Result<Container> read_container(std::span<const std::byte> bytes, const std::string& file) {
  std::uint64_t length = 0;
  for (std::size_t i = 0; i < 8 && i < bytes.size(); ++i) length |= std::to_integer<std::uint64_t>(bytes[i]) << (8 * i);
  if (bytes.size() < 8 || length > bytes.size() - 8)
    return bad_input("safetensors.header_length", "the header does not fit into the file", file, 0);
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + 8, length);
  CONCORD_TRY(const Json json, parse_json(text, file, "safetensors", {}, 8));
  CONCORD_TRY(const JsonFields root, JsonFields::from(json, file, "safetensors"));
  Container out;
  for (const auto& [name, value] : json.items()) {
    CONCORD_TRY(const JsonFields fields, JsonFields::from(value, file, "safetensors", printable(name)));
    if (name == "__metadata__")
      out.metadata = value;
    else
      CONCORD_CHECK(read_tensor(name, fields, bytes.subspan(8 + length), out));
  }
  return out;
}

}  // namespace concord
