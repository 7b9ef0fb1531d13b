#include "capture/format.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/text.hpp"

namespace concord {
namespace {

bool is_hex(const std::string& text) { return from_hex(text).has_value(); }

Status check_size(std::int64_t value, std::int64_t min, std::int64_t max, std::string_view what,
                  const std::string& file) {
  if (value >= min && value <= max) return {};
  return bad_input("capture.bad_size", fmt::format("{} must be in [{}, {}], found {}", what, min, max, value), file);
}

// Not empty, strictly ascending, in [0, limit).
template <class T>
Status check_ascending(const std::vector<T>& values, std::int64_t limit, std::string_view code, std::string_view what,
                       const std::string& file) {
  if (values.empty()) return bad_input(code, fmt::format("{} must not be empty", what), file);
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (values[i] < 0 || values[i] >= limit)
      return bad_input(code, fmt::format("{}[{}] must be in [0, {}), found {}", what, i, limit, values[i]), file);
    if (i > 0 && values[i] <= values[i - 1])
      return bad_input(code,
                       fmt::format("{} must ascend without repeats, found {} after {} at index {}", what, values[i],
                                   values[i - 1], i),
                       file);
  }
  return {};
}

std::string json_text(const OrderedJson& value) {
  return value.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
}

// The metadata object being read: getters name the field that is wrong.
class Metadata {
 public:
  Metadata(const Json& metadata, const std::string& file) : metadata_(metadata), file_(file) {}

  Result<std::string> text(const char* key) const {
    const auto it = metadata_.find(key);
    if (it == metadata_.end())
      return bad_input("capture.missing_metadata", fmt::format("metadata field \"{}\" is missing", key), file_);
    if (!it->is_string()) return bad("bad_metadata", key, "a string", it->type_name());
    const auto& value = it->get_ref<const std::string&>();
    if (value.size() > kMaxMetadataText)
      return bad("bad_metadata", key, fmt::format("at most {} bytes", kMaxMetadataText), std::to_string(value.size()));
    return value;
  }
  Result<std::int64_t> integer(const char* key) const {
    CONCORD_TRY(const std::string value, text(key));
    std::int64_t n = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), n);
    if (error != std::errc() || end != value.data() + value.size() || n < 0)
      return bad("bad_metadata", key, "a non-negative decimal integer", value);
    return n;
  }
  // Hexadecimal of `digits` digits, or of any even number up to 128 when digits is 0.
  Result<std::string> digest(const char* key, std::size_t digits, bool may_be_empty) const {
    CONCORD_TRY(std::string value, text(key));
    const bool length_fits = digits ? value.size() == digits : value.size() <= 128;
    if ((value.empty() && may_be_empty) || (!value.empty() && length_fits && is_hex(value))) return value;
    return bad("bad_digest", key,
               digits ? fmt::format("{} hexadecimal digits", digits) : "at most 128 hexadecimal digits", value);
  }
  Result<std::vector<std::int64_t>> layers() const {
    CONCORD_TRY(const Json list, json("layers"));
    if (!list.is_array()) return bad("bad_metadata", "layers", "an array of integers", list.type_name());
    std::vector<std::int64_t> out;
    for (const Json& v : list) {
      // Anything above 2^32 is outside every limit, so the narrowing below cannot bring it back into range.
      if (!v.is_number_unsigned() || v.get<std::uint64_t>() > UINT32_MAX)
        return bad("bad_metadata", "layers", "an array of hidden-state indices", v.dump());
      out.push_back(static_cast<std::int64_t>(v.get<std::uint64_t>()));
    }
    return out;
  }
  // An object, read strictly and then again in its own order, which is the order its author chose for readers.
  Result<OrderedJson> object(const char* key) const {
    CONCORD_TRY(const Json value, json(key));
    if (!value.is_object()) return bad("bad_json", key, "a JSON object", value.type_name());
    return OrderedJson::parse(metadata_.at(key).get_ref<const std::string&>(), nullptr, false);
  }
  std::unexpected<Error> bad(std::string_view code, const char* key, std::string_view expected,
                             std::string_view found) const {
    return bad_input("capture." + std::string(code),
                     fmt::format("metadata field \"{}\" must be {}, found {}", key, expected, printable(found)), file_);
  }

 private:
  Result<Json> json(const char* key) const {
    CONCORD_TRY(const std::string value, text(key));
    auto parsed = parse_json(value, file_, "capture", {.max_depth = 32, .max_values = kMaxMetadataValues});
    if (!parsed) return bad("bad_json", key, "strict JSON", parsed.error().message);
    return parsed;
  }

  const Json& metadata_;
  const std::string& file_;
};

Status decode_identity(const Metadata& m, DecodedMetadata& out) {
  CaptureHeader& h = out.header;
  CONCORD_TRY(h.workload_id, m.text("workload_id"));
  CONCORD_TRY(h.workload_digest, m.digest("workload_digest", 64, false));
  CONCORD_TRY(h.model, m.text("model"));
  CONCORD_TRY(h.weights_digest, m.digest("weights_digest", 64, true));
  CONCORD_TRY(h.source_digest, m.digest("source_digest", 64, true));
  CONCORD_TRY(h.nonce, m.digest("nonce", 0, true));
  CONCORD_TRY(h.role, m.text("role"));
  if (h.role != "prover" && h.role != "verifier")
    return m.bad("bad_metadata", "role", "\"prover\" or \"verifier\"", h.role);
  CONCORD_TRY(h.configuration, m.object("configuration"));
  CONCORD_TRY(h.provenance, m.object("provenance"));
  CONCORD_TRY(const std::string root, m.digest("merkle_root", 64, false));
  out.root = *sha256_from_hex(root);
  return {};
}

Status decode_numbers(const Metadata& m, DecodedMetadata& out, const std::string& file) {
  CaptureHeader& h = out.header;
  CONCORD_TRY(out.expected_tensors, m.integer("expected_tensors"));
  CONCORD_TRY(h.hidden, m.integer("hidden"));
  CONCORD_TRY(h.model_layers, m.integer("model_layers"));
  CONCORD_TRY(h.prompt_tokens, m.integer("prompt_tokens"));
  CONCORD_TRY(h.layers, m.layers());
  CONCORD_TRY(const std::string dtype, m.text("dtype"));
  const auto known = dtype_from_name(dtype);
  if (!known) return m.bad("bad_dtype", "dtype", "F32, F16 or BF16", dtype);
  h.dtype = *known;
  CONCORD_TRY(const std::string rule, m.text("leaf_rule"));
  CONCORD_TRY(const std::int64_t chunk, m.integer("chunk_positions"));
  if (rule != kLeafRule || chunk != kChunkPositions)
    return bad_input("capture.unknown_rule",
                     fmt::format("expected leaf rule {} with {} positions in a chunk, found {} with {}", kLeafRule,
                                 kChunkPositions, printable(rule), chunk),
                     file);
  return {};
}

}  // namespace

Status check_plan(const CaptureHeader& h, const std::string& file) {
  if (h.dtype != DType::kF32 && h.dtype != DType::kF16 && h.dtype != DType::kBF16)
    return bad_input("capture.bad_dtype", fmt::format("states must be F32, F16 or BF16, found {}", dtype_name(h.dtype)),
                     file);
  const auto tokens = static_cast<std::int64_t>(h.tokens.size());
  CONCORD_CHECK(check_size(h.hidden, 1, kMaxHidden, "hidden", file));
  CONCORD_CHECK(check_size(h.model_layers, 1, kMaxModelLayers, "model_layers", file));
  CONCORD_CHECK(check_size(tokens, 1, kMaxTokens, "the number of tokens", file));
  CONCORD_CHECK(check_ascending(h.layers, h.model_layers + 1, "capture.bad_layers", "layers", file));
  CONCORD_CHECK(check_ascending(h.positions, tokens, "capture.bad_positions", "positions", file));
  CONCORD_CHECK(
      check_size(static_cast<std::int64_t>(leaf_count(h)), 1, kMaxLeaves, "the number of Merkle leaves", file));
  if (h.prompt_tokens < 0 || h.prompt_tokens > tokens)
    return bad_input("capture.bad_prompt",
                     fmt::format("prompt_tokens must be in [0, {}], found {}", tokens, h.prompt_tokens), file);
  return {};
}

Status check_tokens(const std::vector<std::int32_t>& tokens, const std::string& file) {
  const auto bad = std::ranges::find_if(tokens, [](std::int32_t t) { return t < 0; });
  if (bad == tokens.end()) return {};
  return bad_input("capture.bad_tokens",
                   fmt::format("tokens[{}] must not be negative, found {}", bad - tokens.begin(), *bad), file);
}

OrderedJson encode_metadata(const CaptureHeader& h, const Sha256& root) {
  return OrderedJson{{"schema", kCaptureSchema},
                     {"expected_tensors", std::to_string(h.layers.size() + 2)},
                     {"role", h.role},
                     {"workload_id", h.workload_id},
                     {"workload_digest", h.workload_digest},
                     {"nonce", h.nonce},
                     {"model", h.model},
                     {"weights_digest", h.weights_digest},
                     {"source_digest", h.source_digest},
                     {"model_layers", std::to_string(h.model_layers)},
                     {"layers", Json(h.layers).dump()},
                     {"hidden", std::to_string(h.hidden)},
                     {"dtype", std::string(dtype_name(h.dtype))},
                     {"prompt_tokens", std::to_string(h.prompt_tokens)},
                     {"leaf_rule", kLeafRule},
                     {"chunk_positions", std::to_string(kChunkPositions)},
                     {"merkle_root", hex(root)},
                     {"configuration", json_text(h.configuration.is_null() ? OrderedJson::object() : h.configuration)},
                     {"provenance", json_text(h.provenance.is_null() ? OrderedJson::object() : h.provenance)}};
}

Result<DecodedMetadata> decode_metadata(const Json& metadata, const std::string& file) {
  const Metadata m(metadata, file);
  const auto schema = metadata.find("schema");
  if (schema == metadata.end() || *schema != kCaptureSchema)
    return bad_input(
        "capture.schema_version",
        fmt::format("expected metadata \"schema\": \"{}\", found {}; this build reads no other version", kCaptureSchema,
                    schema == metadata.end() ? "none" : printable(schema->dump(-1, ' ', true))),
        file);
  DecodedMetadata out;
  CONCORD_CHECK(decode_identity(m, out));
  CONCORD_CHECK(decode_numbers(m, out, file));
  return out;
}

}  // namespace concord
