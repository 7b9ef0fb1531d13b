// GGUF versions 2 and 3 (the same layout; version 3 only added big-endian files, which are refused). Version 1 had
// 32-bit lengths and is refused. Format: ggml's docs/gguf.md. Where ggml's own reader is stricter than the
// specification (tensor names below 64 bytes, offsets exactly the padded running sum in file order, no arrays of
// arrays), its rule is taken. Every count is compared with what the rest of the file can hold before anything is
// allocated for it.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <unordered_set>

#include "base/text.hpp"
#include "checkpoint/codec.hpp"
#include "checkpoint/gguf_types.hpp"
#include "checkpoint/parse.hpp"

namespace concord {
namespace {

namespace limits = checkpoint_limits;

// Metadata value types by their id in the file.
enum ValueType : std::int32_t {
  kU8 = 0,
  kI8 = 1,
  kU16 = 2,
  kI16 = 3,
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kU64 = 10,
  kI64 = 11,
  kF64 = 12,
};
struct ValueTypeInfo {
  std::string_view name;
  std::uint64_t bytes;  // smallest stored size of one value
};
constexpr std::array<ValueTypeInfo, 13> kValueTypes{{
    {"u8", 1},
    {"i8", 1},
    {"u16", 2},
    {"i16", 2},
    {"u32", 4},
    {"i32", 4},
    {"f32", 4},
    {"bool", 1},
    {"string", 8},
    {"array", 12},
    {"u64", 8},
    {"i64", 8},
    {"f64", 8},
}};

// Keys that a reader of models relies on: a wrong type here is refused at once, not where the value is used.
enum class Kind { kString, kU32, kStrings, kFloats, kIntegers };
struct KnownKey {
  std::string_view key;
  Kind kind;
  std::string_view description;
};
constexpr std::array<KnownKey, 6> kKnownKeys{{
    {"general.architecture", Kind::kString, "a string"},
    {"general.alignment", Kind::kU32, "a u32"},
    {"tokenizer.ggml.tokens", Kind::kStrings, "an array of strings"},
    {"tokenizer.ggml.merges", Kind::kStrings, "an array of strings"},
    {"tokenizer.ggml.scores", Kind::kFloats, "an array of f32 or f64"},
    {"tokenizer.ggml.token_type", Kind::kIntegers, "an array of integers"},
}};

constexpr std::uint64_t kSmallestPair = 8 + 4 + 1;            // key length, type, one byte
constexpr std::uint64_t kSmallestTensor = 8 + 4 + 8 + 4 + 8;  // name length, rank, one extent, type, offset

class GgufParser {
 public:
  GgufParser(std::span<const std::byte> bytes, const std::string& file) : bytes_(bytes), file_(file) {}
  Result<ParsedFile> parse();

 private:
  std::unexpected<Error> refuse(std::string_view code, std::string text, std::uint64_t at) const {
    return bad_input("gguf." + std::string(code), std::move(text), file_, at);
  }
  std::uint64_t left() const { return bytes_.size() - at_; }
  template <class T>
  Result<T> take(std::string_view what);
  Result<std::string> string(std::string_view what, std::uint64_t limit, std::string_view too_long);
  Result<std::string> name(std::string_view what, std::uint64_t limit, std::string_view too_long);
  Status header();
  Status count(std::string_view code, std::string_view what, std::uint64_t smallest, std::uint64_t limit,
               std::uint64_t& out);
  Status pair();
  Status known_key(const std::string& key, std::int32_t type, std::int32_t element, std::uint64_t at) const;
  Result<Json> scalar(std::int32_t type);
  template <class T>
  Result<Json> number();
  Result<Json> array(std::int32_t& element);
  Status alignment();
  Status tensor();
  Result<Shape> shape(const std::string& who);
  Result<const GgmlType*> type(const std::string& who);
  Status place_tensors();

  std::span<const std::byte> bytes_;
  const std::string& file_;
  std::uint64_t at_ = 0, tensors_ = 0, pairs_ = 0, values_ = 0, alignment_at_ = 0;
  std::uint64_t alignment_ = 32;
  std::unordered_set<std::string> names_;
  ParsedFile out_;
};

template <class T>
Result<T> GgufParser::take(std::string_view what) {
  if (left() < sizeof(T))
    return refuse("truncated",
                  fmt::format("the file ends inside {}: {} bytes needed, {} left", what, sizeof(T), left()), at_);
  T v;
  std::memcpy(&v, bytes_.data() + at_, sizeof v);
  at_ += sizeof v;
  return v;
}

Result<std::string> GgufParser::string(std::string_view what, std::uint64_t limit, std::string_view too_long) {
  const std::uint64_t start = at_;
  CONCORD_TRY(const std::uint64_t length, take<std::uint64_t>(what));
  if (length > left())
    return refuse("string_beyond_file",
                  fmt::format("{} claims {} bytes, {} are left in the file", what, length, left()), start);
  if (length > limit)
    return refuse(too_long, fmt::format("{} has {} bytes, at most {} are allowed", what, length, limit), start);
  std::string text(reinterpret_cast<const char*>(bytes_.data()) + at_, length);
  at_ += length;
  return text;
}

// A key or tensor name: text that other parts print and look up.
Result<std::string> GgufParser::name(std::string_view what, std::uint64_t limit, std::string_view too_long) {
  const std::uint64_t start = at_;
  CONCORD_TRY(std::string text, string(what, limit, too_long));
  const bool control =
      std::ranges::any_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
  if (!is_valid_utf8(text))
    return refuse("not_utf8", fmt::format("{} \"{}\" is not UTF-8", what, printable(text)), start + 8);
  if (text.empty() || control)
    return refuse("bad_name", fmt::format("{} \"{}\" is empty or has control characters", what, printable(text)),
                  start + 8);
  return text;
}

Status GgufParser::count(std::string_view code, std::string_view what, std::uint64_t smallest, std::uint64_t limit,
                         std::uint64_t& out) {
  const std::uint64_t start = at_;
  CONCORD_TRY(const std::int64_t n, take<std::int64_t>(what));
  if (n < 0) return refuse(code, fmt::format("{} is negative ({})", what, n), start);
  out = static_cast<std::uint64_t>(n);
  if (out > limit) return refuse(code, fmt::format("{} is {}, at most {} are read", what, out, limit), start);
  const std::uint64_t rest = bytes_.size() - std::min<std::uint64_t>(bytes_.size(), 24);
  if (out > rest / smallest)
    return refuse(code,
                  fmt::format("{} is {}, but the {} bytes of the file cannot hold so many", what, out, bytes_.size()),
                  start);
  return {};
}

Status GgufParser::header() {
  CONCORD_TRY(const std::uint32_t magic, take<std::uint32_t>("the magic number"));
  if (magic != 0x46554747u) return refuse("bad_magic", "the file does not begin with \"GGUF\"", 0);
  CONCORD_TRY(const std::uint32_t version, take<std::uint32_t>("the version"));
  if (version != 0 && (version & 0xffffu) == 0)
    return refuse("byte_order",
                  fmt::format("version {:#010x}: the file is big-endian; only little-endian files are read", version),
                  4);
  if (version != 2 && version != 3)
    return refuse("unsupported_version",
                  fmt::format("version {}; versions 2 and 3 are read (convert the model again)", version), 4);
  out_.format = fmt::format("gguf v{}", version);
  CONCORD_CHECK(count("bad_tensor_count", "the number of tensors", kSmallestTensor, limits::kTensors, tensors_));
  return count("bad_kv_count", "the number of metadata pairs", kSmallestPair, limits::kMetadataEntries, pairs_);
}

template <class T>
Result<Json> GgufParser::number() {
  CONCORD_TRY(const T v, take<T>("a metadata value"));
  return Json(v);
}

Result<Json> GgufParser::scalar(std::int32_t type) {
  if (++values_ > limits::kGgufValues)
    return refuse("too_many_values", fmt::format("more than {} metadata values", limits::kGgufValues), at_);
  switch (type) {
    case kU8:
      return number<std::uint8_t>();
    case kI8:
      return number<std::int8_t>();
    case kU16:
      return number<std::uint16_t>();
    case kI16:
      return number<std::int16_t>();
    case kU32:
      return number<std::uint32_t>();
    case kI32:
      return number<std::int32_t>();
    case kU64:
      return number<std::uint64_t>();
    case kI64:
      return number<std::int64_t>();
    case kF32:
      return number<float>();
    case kF64:
      return number<double>();
    case kString: {
      CONCORD_TRY(std::string text, string("a metadata string", limits::kGgufStringBytes, "string_too_long"));
      return Json(std::move(text));
    }
    default:
      break;  // kBool; pair() and array() have refused all else
  }
  const std::uint64_t start = at_;
  CONCORD_TRY(const std::uint8_t v, take<std::uint8_t>("a metadata value"));
  if (v > 1) return refuse("bad_bool", fmt::format("a boolean must be 0 or 1, found {}", v), start);
  return Json(v == 1);
}

Result<Json> GgufParser::array(std::int32_t& element) {
  const std::uint64_t start = at_;
  CONCORD_TRY(element, take<std::int32_t>("the element type of an array"));
  if (element < 0 || element >= static_cast<std::int32_t>(kValueTypes.size()))
    return refuse("bad_value_type", fmt::format("unknown array element type {}", element), start);
  if (element == kArray) return refuse("nested_array", "arrays of arrays are not read (ggml refuses them too)", start);
  CONCORD_TRY(const std::uint64_t n, take<std::uint64_t>("the length of an array"));
  const std::uint64_t size = kValueTypes[static_cast<std::size_t>(element)].bytes;
  if (n > left() / size)
    return refuse("array_beyond_file",
                  fmt::format("an array claims {} elements of at least {} bytes, {} bytes are left", n, size, left()),
                  start + 4);
  if (n > limits::kGgufValues - values_)
    return refuse("too_many_values", fmt::format("more than {} metadata values", limits::kGgufValues), start + 4);
  Json out = Json::array();
  out.get_ref<Json::array_t&>().reserve(n);
  for (std::uint64_t i = 0; i < n; ++i) {
    CONCORD_TRY(Json v, scalar(element));
    out.push_back(std::move(v));
  }
  return out;
}

Status GgufParser::known_key(const std::string& key, std::int32_t type, std::int32_t element, std::uint64_t at) const {
  const auto known = std::ranges::find(kKnownKeys, key, &KnownKey::key);
  if (known == kKnownKeys.end()) return {};
  const bool is_array = type == kArray;
  const bool integer = element <= kI32 || element == kU64 || element == kI64;
  bool fits = false;
  switch (known->kind) {
    case Kind::kString:
      fits = type == kString;
      break;
    case Kind::kU32:
      fits = type == kU32;
      break;
    case Kind::kStrings:
      fits = is_array && element == kString;
      break;
    case Kind::kFloats:
      fits = is_array && (element == kF32 || element == kF64);
      break;
    case Kind::kIntegers:
      fits = is_array && integer;
      break;
  }
  if (fits) return {};
  const auto name_of = [](std::int32_t t) { return kValueTypes[static_cast<std::size_t>(t)].name; };
  return refuse("wrong_type",
                fmt::format("{} must be {}, found {}{}", key, known->description, is_array ? "an array of " : "",
                            name_of(is_array ? element : type)),
                at);
}

Status GgufParser::pair() {
  const std::uint64_t start = at_;
  CONCORD_TRY(std::string key, name("a metadata key", limits::kGgufKeyBytes, "key_too_long"));
  if (out_.metadata.contains(key))
    return refuse("duplicate_key", fmt::format("metadata key \"{}\" appears twice", printable(key)), start);
  const std::uint64_t type_at = at_;
  CONCORD_TRY(const std::int32_t type, take<std::int32_t>("a value type"));
  if (type < 0 || type >= static_cast<std::int32_t>(kValueTypes.size()))
    return refuse("bad_value_type", fmt::format("\"{}\" has the unknown value type {}", printable(key), type), type_at);
  std::int32_t element = kU8;
  if (key == "general.alignment") alignment_at_ = at_;
  CONCORD_TRY(Json value, type == kArray ? array(element) : scalar(type));
  CONCORD_CHECK(known_key(key, type, element, type_at));
  out_.metadata[std::move(key)] = std::move(value);
  return {};
}

Status GgufParser::alignment() {
  if (!out_.metadata.contains("general.architecture"))
    return refuse("missing_architecture", "the metadata has no general.architecture", at_);
  if (out_.metadata.contains("split.count") && out_.metadata["split.count"].is_number() &&
      out_.metadata["split.count"] > 1)
    return refuse("split_file", "this is one part of a split model; join the parts first (llama-gguf-split --merge)",
                  at_);
  if (!out_.metadata.contains("general.alignment")) return {};
  const auto value = out_.metadata["general.alignment"].get<std::uint32_t>();
  if (value < 8 || value > limits::kGgufAlignment || !std::has_single_bit(value))
    return refuse(
        "bad_alignment",
        fmt::format("general.alignment must be a power of two from 8 to {}, found {}", limits::kGgufAlignment, value),
        alignment_at_);
  alignment_ = value;
  return {};
}

Result<Shape> GgufParser::shape(const std::string& who) {
  const std::uint64_t start = at_;
  CONCORD_TRY(const std::uint32_t rank, take<std::uint32_t>("a tensor's rank"));
  if (rank < 1 || rank > 4) return refuse("bad_rank", fmt::format("{}: rank {}, must be 1 to 4", who, rank), start);
  Shape extents;
  for (std::uint32_t i = 0; i < rank; ++i) {
    CONCORD_TRY(const std::int64_t extent, take<std::int64_t>("a tensor's shape"));
    if (extent < 0) return refuse("bad_shape", fmt::format("{}: extent {} is negative ({})", who, i, extent), at_ - 8);
    extents.push_back(extent);
  }
  std::ranges::reverse(extents);  // the file has the fastest axis first
  return extents;
}

Result<const GgmlType*> GgufParser::type(const std::string& who) {
  const std::uint64_t start = at_;
  CONCORD_TRY(const std::int32_t id, take<std::int32_t>("a tensor's type"));
  if (id < 0 || id >= static_cast<std::int32_t>(kGgmlTypes.size()))
    return refuse("unknown_type",
                  fmt::format("{}: type id {} is unknown (0 to {} are known)", who, id, kGgmlTypes.size() - 1), start);
  const GgmlType& found = kGgmlTypes[static_cast<std::size_t>(id)];
  if (found.elements == 0)
    return refuse(
        "removed_type",
        fmt::format("{}: type id {} ({}) was removed from ggml; quantise the model again", who, id, found.name), start);
  return &found;
}

Status GgufParser::tensor() {
  const std::uint64_t start = at_;
  CONCORD_TRY(std::string tensor_name, name("a tensor name", limits::kGgufNameBytes, "name_too_long"));
  if (!names_.insert(tensor_name).second)
    return refuse("duplicate_tensor", fmt::format("tensor \"{}\" is declared twice", printable(tensor_name)), start);
  const std::string who = fmt::format("tensor \"{}\"", printable(tensor_name));
  const std::uint64_t shape_at = at_;
  CONCORD_TRY(Shape extents, shape(who));
  CONCORD_TRY(const GgmlType* found, type(who));
  const auto elements = checked_elements(extents);
  const std::uint64_t row = static_cast<std::uint64_t>(extents.back());
  if (elements && row % found->elements != 0)
    return refuse(
        "partial_block",
        fmt::format("{}: rows of {} elements are not whole {} blocks of {}", who, row, found->name, found->elements),
        shape_at);
  const auto bytes = elements ? checked_mul(*elements / found->elements, found->bytes) : std::nullopt;
  if (!bytes)
    return refuse("overflow", fmt::format("{}: shape {} does not fit in 64 bits", who, shape_string(extents)),
                  shape_at);
  CONCORD_TRY(const std::uint64_t offset, take<std::uint64_t>("a tensor's offset"));
  const std::string type_name(found->name);
  out_.tensors.push_back({.name = std::move(tensor_name),
                          .type = type_name,
                          .shape = std::move(extents),
                          .elements = *elements,
                          .bytes = *bytes,
                          .offset = offset,
                          .file = 0,
                          .decodable = find_codec(type_name) != nullptr});
  return {};
}

// Offsets count from the padded end of the tensor table and must be the padded running sum.
Status GgufParser::place_tensors() {
  const auto padded = [&](std::uint64_t n) -> std::optional<std::uint64_t> {
    const auto up = checked_add(n, alignment_ - 1);
    return up ? std::optional(*up / alignment_ * alignment_) : std::nullopt;
  };
  const std::uint64_t table_end = at_, data = *padded(at_);  // at_ is at most the size of a mapping
  std::uint64_t expected = 0, end = table_end;
  for (TensorInfo& t : out_.tensors) {
    const auto wrong = [&](std::string_view code) {
      return refuse(code,
                    fmt::format("tensor \"{}\" has offset {}, expected {}", printable(t.name), t.offset, expected),
                    table_end);
    };
    if (t.offset % alignment_ != 0) return wrong("misaligned_offset");
    if (t.offset < expected) return wrong("overlap");
    if (t.offset > expected) return wrong("hole");
    const auto stop = checked_add(t.offset, t.bytes);
    const auto next = stop ? padded(*stop) : std::nullopt;
    const auto last = next ? checked_add(data, *next) : std::nullopt;
    if (!last)
      return refuse("overflow", fmt::format("the end of tensor \"{}\" does not fit in 64 bits", printable(t.name)),
                    table_end);
    if (data + *stop > bytes_.size())
      return refuse(
          "data_beyond_file",
          fmt::format("tensor \"{}\" ends at byte {}, the file has {}", printable(t.name), data + *stop, bytes_.size()),
          bytes_.size());
    t.offset += data;
    expected = *next;
    end = data + *stop;
  }
  const std::uint64_t allowed = *padded(end);
  if (bytes_.size() > allowed)
    return refuse("trailing_bytes", fmt::format("{} bytes behind the last tensor", bytes_.size() - allowed), allowed);
  return {};
}

Result<ParsedFile> GgufParser::parse() {
  CONCORD_CHECK(header());
  for (std::uint64_t i = 0; i < pairs_; ++i) CONCORD_CHECK(pair());
  CONCORD_CHECK(alignment());
  for (std::uint64_t i = 0; i < tensors_; ++i) CONCORD_CHECK(tensor());
  CONCORD_CHECK(place_tensors());
  return std::move(out_);
}

}  // namespace

Result<ParsedFile> parse_gguf(std::span<const std::byte> bytes, const std::string& file) {
  return GgufParser(bytes, file).parse();
}

}  // namespace concord
