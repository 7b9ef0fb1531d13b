// The safetensors header: u64 length, JSON, data. Format: https://github.com/huggingface/safetensors (README,
// "Format"). The JSON is read as a stream and never held as a document, so a header of a hundred million bytes costs no
// more memory than the tensors it declares, and it is left at the first breach. Positions in errors are just behind the
// token that was refused.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <unordered_set>

#include "base/read_cursor.hpp"
#include "base/text.hpp"
#include "checkpoint/codec.hpp"
#include "checkpoint/parse.hpp"

namespace concord {
namespace {

namespace limits = checkpoint_limits;

// A tensor as the header declares it.
struct Entry {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  std::uint64_t begin = 0, end = 0;  // relative to the start of the data
  std::uint64_t position = 0;        // behind its name in the header, for messages
};

// Receives the JSON events. Only the three levels of the format exist, so nesting cannot grow.
class HeaderHandler {
 public:
  HeaderHandler(const char* begin, const char** reached) : begin_(begin), reached_(reached) {}

  std::vector<Entry> entries;
  Json metadata = Json::object();
  std::string code, message;  // set when a callback refused
  std::size_t position = 0;   // in the header

  bool null() { return unexpected("null"); }
  bool boolean(bool) { return unexpected("a boolean"); }
  bool number_integer(Json::number_integer_t v) { return unexpected(fmt::format("the negative number {}", v)); }
  bool number_float(Json::number_float_t, const std::string& text) {
    return unexpected(fmt::format("{}, which is not an integer of 64 bits", printable(text, 40)));
  }
  bool number_unsigned(Json::number_unsigned_t v);
  bool string(std::string& v);
  bool binary(Json::binary_t&) { return unexpected("a binary value"); }
  bool start_object(std::size_t);
  bool end_object();
  bool start_array(std::size_t);
  bool end_array();
  bool key(std::string& k);
  bool parse_error(std::size_t where, const std::string&, const Json::exception& e) {
    const std::string what = e.what();
    refuse("syntax", printable(what.substr(what.find(']') + 2), 200));
    if (where > 0) position = where - 1;
    return false;
  }

 private:
  enum class State { kStart, kRoot, kTensor, kShape, kOffsets, kMetadata, kEnd };
  enum Field : unsigned { kNone = 0, kDtype = 1, kShapeField = 2, kOffsetsField = 4 };

  std::size_t here() const { return static_cast<std::size_t>(*reached_ - begin_); }
  bool refuse(std::string_view what, std::string text) {
    code = "safetensors." + std::string(what);
    message = std::move(text);
    position = here();
    return false;
  }
  std::string who() const {
    return entries.empty() ? "" : fmt::format("tensor \"{}\": ", printable(entries.back().name));
  }
  bool unexpected(const std::string& found);
  bool root_key(std::string& k);
  bool field_key(const std::string& k);
  bool finish_tensor();

  const char* begin_;
  const char** reached_;
  State state_ = State::kStart;
  bool metadata_next_ = false;
  Field field_ = kNone;
  unsigned seen_ = 0;  // fields of the current tensor
  std::vector<std::uint64_t> offsets_;
  std::string metadata_key_;
  std::unordered_set<std::string> names_;
};

// A value of a type that has no place where it stands.
bool HeaderHandler::unexpected(const std::string& found) {
  switch (state_) {
    case State::kStart:
    case State::kEnd:
      return refuse("not_object", fmt::format("the header must be one JSON object, found {}", found));
    case State::kRoot:
      if (metadata_next_)
        return refuse("metadata", fmt::format("__metadata__ must be an object of strings, found {}", found));
      return refuse("bad_entry", fmt::format("{}must be an object, found {}", who(), found));
    case State::kMetadata:
      return refuse("metadata",
                    fmt::format("__metadata__ \"{}\" must be a string, found {}", printable(metadata_key_), found));
    case State::kShape:
      return refuse("bad_shape", fmt::format("{}an extent must be an integer >= 0, found {}", who(), found));
    case State::kOffsets:
      return refuse("bad_offsets", fmt::format("{}an offset must be an integer >= 0, found {}", who(), found));
    case State::kTensor:
      break;
  }
  if (field_ == kDtype) return refuse("unknown_dtype", fmt::format("{}dtype must be a string, found {}", who(), found));
  if (field_ == kShapeField)
    return refuse("bad_shape", fmt::format("{}shape must be an array, found {}", who(), found));
  return refuse("bad_offsets", fmt::format("{}data_offsets must be an array, found {}", who(), found));
}

bool HeaderHandler::number_unsigned(Json::number_unsigned_t v) {
  if (state_ == State::kShape) {
    if (v > static_cast<std::uint64_t>(INT64_MAX)) return unexpected(fmt::format("{}, which is above 2^63 - 1", v));
    if (entries.back().shape.size() >= limits::kRank)
      return refuse("rank", fmt::format("{}more than {} dimensions", who(), limits::kRank));
    entries.back().shape.push_back(static_cast<std::int64_t>(v));
    return true;
  }
  if (state_ == State::kOffsets) {
    if (offsets_.size() >= 2)
      return refuse("bad_offsets", fmt::format("{}data_offsets must be two numbers, found more", who()));
    offsets_.push_back(v);
    return true;
  }
  return unexpected(fmt::format("the number {}", v));
}

bool HeaderHandler::string(std::string& v) {
  if (state_ == State::kMetadata) {
    metadata[metadata_key_] = std::move(v);
    return true;
  }
  if (state_ != State::kTensor || field_ != kDtype) return unexpected(fmt::format("the string \"{}\"", printable(v)));
  const auto dtype = dtype_from_name(v);
  if (!dtype) return refuse("unknown_dtype", fmt::format("{}no such dtype: \"{}\"", who(), printable(v)));
  entries.back().dtype = *dtype;
  return true;
}

bool HeaderHandler::start_object(std::size_t) {
  if (state_ == State::kStart) {
    state_ = State::kRoot;
    return true;
  }
  if (state_ != State::kRoot) return unexpected("an object");
  state_ = metadata_next_ ? State::kMetadata : State::kTensor;
  seen_ = 0;
  return true;
}

bool HeaderHandler::end_object() {
  if (state_ == State::kTensor && !finish_tensor()) return false;
  state_ = state_ == State::kRoot ? State::kEnd : State::kRoot;
  return true;
}

bool HeaderHandler::start_array(std::size_t) {
  if (state_ != State::kTensor || field_ == kDtype) return unexpected("an array");
  state_ = field_ == kShapeField ? State::kShape : State::kOffsets;
  offsets_.clear();
  return true;
}

bool HeaderHandler::end_array() {
  if (state_ == State::kOffsets) {
    if (offsets_.size() != 2)
      return refuse("bad_offsets", fmt::format("{}data_offsets must be two numbers, found {}", who(), offsets_.size()));
    if (offsets_[0] > offsets_[1])
      return refuse("bad_offsets",
                    fmt::format("{}data_offsets end ({}) before they begin ({})", who(), offsets_[1], offsets_[0]));
    entries.back().begin = offsets_[0];
    entries.back().end = offsets_[1];
  }
  state_ = State::kTensor;
  return true;
}

bool HeaderHandler::key(std::string& k) {
  if (state_ == State::kRoot) return root_key(k);
  if (state_ == State::kTensor) return field_key(k);
  if (metadata.size() >= limits::kMetadataEntries)
    return refuse("metadata", fmt::format("more than {} entries in __metadata__", limits::kMetadataEntries));
  if (metadata.contains(k)) return refuse("duplicate_key", fmt::format("__metadata__ has \"{}\" twice", printable(k)));
  metadata_key_ = std::move(k);
  return true;
}

bool HeaderHandler::root_key(std::string& k) {
  if (!names_.insert(k).second) return refuse("duplicate_key", fmt::format("\"{}\" is declared twice", printable(k)));
  metadata_next_ = k == "__metadata__";
  if (metadata_next_) return true;
  if (entries.size() >= limits::kTensors)
    return refuse("too_many_tensors", fmt::format("more than {} tensors", limits::kTensors));
  const bool control = std::ranges::any_of(k, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
  if (k.empty() || k.size() > limits::kNameBytes || control)
    return refuse("bad_name",
                  fmt::format("a tensor name must have 1 to {} bytes and no control characters, found \"{}\"",
                              limits::kNameBytes, printable(k)));
  entries.push_back({.name = std::move(k), .shape = {}, .position = here()});
  return true;
}

bool HeaderHandler::field_key(const std::string& k) {
  field_ = k == "dtype" ? kDtype : k == "shape" ? kShapeField : k == "data_offsets" ? kOffsetsField : kNone;
  if (field_ == kNone)
    return refuse("unknown_field", fmt::format("{}field \"{}\" is not part of the format", who(), printable(k)));
  if (seen_ & field_) return refuse("duplicate_key", fmt::format("{}field \"{}\" appears twice", who(), k));
  seen_ |= field_;
  return true;
}

bool HeaderHandler::finish_tensor() {
  if (seen_ == (kDtype | kShapeField | kOffsetsField)) return true;
  const char* missing = !(seen_ & kDtype) ? "dtype" : !(seen_ & kShapeField) ? "shape" : "data_offsets";
  return refuse("missing_field", fmt::format("{}{} is missing", who(), missing));
}

// Position of the first byte that is not well-formed UTF-8, if any.
std::optional<std::size_t> first_bad_utf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    if (static_cast<unsigned char>(text[i]) < 0x80) {
      ++i;
      continue;
    }
    std::size_t n = 2;
    while (n <= 4 && !is_valid_utf8(text.substr(i, n))) ++n;
    if (n > 4 || i + n > text.size()) return i;
    i += n;
  }
  return std::nullopt;
}

struct Header {
  std::string_view json;
  std::uint64_t data = 0;  // position of the data in the file
};

Result<Header> find_header(std::span<const std::byte> bytes, const std::string& file) {
  if (bytes.size() < 8)
    return bad_input("safetensors.too_small",
                     fmt::format("a safetensors file has at least 8 bytes, found {}", bytes.size()), file, 0);
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  if (length == 0)
    return bad_input("safetensors.empty_header", "the header length is 0 (is the start of the file zeroed?)", file, 0);
  if (length > limits::kSafetensorsHeader)
    return bad_input("safetensors.header_too_large",
                     fmt::format("the header claims {} bytes; at most {} are read", length, limits::kSafetensorsHeader),
                     file, 0);
  if (length > bytes.size() - 8)
    return bad_input("safetensors.header_beyond_file",
                     fmt::format("the header claims {} bytes, the file has {} after the length (truncated?)", length,
                                 bytes.size() - 8),
                     file, 0);
  const std::string_view json(reinterpret_cast<const char*>(bytes.data()) + 8, length);
  if (const auto bad = first_bad_utf8(json))
    return bad_input("safetensors.not_utf8", "the header is not UTF-8", file, 8 + *bad);
  if (std::string_view(" \t\r\n\xEF").contains(json[0]))
    return bad_input("safetensors.header_start",
                     "the header must begin with '{', found white space or a byte order mark", file, 8);
  // The JSON parser takes a zero byte for the end of its input, so what follows one would go unseen.
  if (const auto zero = json.find('\0'); zero != std::string_view::npos)
    return bad_input("safetensors.syntax", "zero byte in the header", file, 8 + zero);
  return Header{json, 8 + length};
}

// Element and byte counts of one entry against its offsets.
Result<TensorInfo> check_entry(Entry& e, const Header& header, const std::string& file) {
  const auto refuse = [&](std::string_view code, std::string text) {
    return bad_input(code, fmt::format("tensor \"{}\": {}", printable(e.name), text), file, 8 + e.position);
  };
  const auto elements = checked_elements(e.shape);
  const auto bits = elements ? checked_mul(*elements, dtype_bits(e.dtype)) : std::nullopt;
  const auto end = checked_add(header.data, e.end);
  if (!bits || !end)
    return refuse("safetensors.overflow",
                  fmt::format("shape {} times the element size does not fit", shape_string(e.shape)));
  if (*bits % 8 != 0) return refuse("safetensors.partial_byte", fmt::format("{} bits are not whole bytes", *bits));
  if (*bits / 8 != e.end - e.begin)
    return refuse("safetensors.size_mismatch",
                  fmt::format("{} {} takes {} bytes, data_offsets span {}", dtype_name(e.dtype), shape_string(e.shape),
                              *bits / 8, e.end - e.begin));
  const std::string type(dtype_name(e.dtype));
  return TensorInfo{.name = std::move(e.name),
                    .type = type,
                    .shape = std::move(e.shape),
                    .elements = *elements,
                    .bytes = *bits / 8,
                    .offset = header.data + e.begin,
                    .file = 0,
                    .decodable = find_codec(type) != nullptr};
}

// The tensors must cover the data without hole or overlap, from its first to its last byte.
Status check_layout(std::vector<TensorInfo>& tensors, const Header& header, std::uint64_t size,
                    const std::string& file) {
  std::ranges::sort(tensors, [](const TensorInfo& a, const TensorInfo& b) {
    return a.offset != b.offset ? a.offset < b.offset : a.bytes < b.bytes;
  });
  std::uint64_t reached = header.data;
  for (const TensorInfo& t : tensors) {
    const auto refuse = [&](std::string_view code) {
      return bad_input(
          code, fmt::format("tensor \"{}\" begins at byte {}, expected {}", printable(t.name), t.offset, reached), file,
          std::min(reached, size));
    };
    if (t.offset != reached && reached == header.data && &t == tensors.data())
      return refuse("safetensors.first_offset");
    if (t.offset < reached) return refuse("safetensors.overlap");
    if (t.offset > reached) return refuse("safetensors.hole");
    reached = t.offset + t.bytes;
  }
  if (reached > size)
    return bad_input("safetensors.truncated", fmt::format("the tensors need {} bytes, the file has {}", reached, size),
                     file, size);
  if (reached < size)
    return bad_input("safetensors.trailing_bytes", fmt::format("{} bytes behind the last tensor", size - reached), file,
                     reached);
  return {};
}

}  // namespace

std::optional<std::uint64_t> checked_elements(std::span<const std::int64_t> shape) {
  std::uint64_t product = 1;
  bool zero = false;
  for (const std::int64_t extent : shape) {
    if (extent == 0) zero = true;
    const auto next = checked_mul(product, extent == 0 ? 1 : static_cast<std::uint64_t>(extent));
    if (!next || *next > static_cast<std::uint64_t>(INT64_MAX)) return std::nullopt;
    product = *next;
  }
  return zero ? 0 : product;
}

Result<ParsedFile> parse_safetensors(std::span<const std::byte> bytes, const std::string& file) {
  CONCORD_TRY(const Header header, find_header(bytes, file));
  const char* reached = header.json.data();
  HeaderHandler handler(header.json.data(), &reached);
  const bool ok = Json::sax_parse(ReadCursor(header.json.data(), &reached),
                                  ReadCursor(header.json.data() + header.json.size(), &reached), &handler);
  if (!ok) return bad_input(handler.code, handler.message, file, 8 + handler.position);
  ParsedFile out{.tensors = {}, .metadata = std::move(handler.metadata), .format = "safetensors"};
  out.tensors.reserve(handler.entries.size());
  for (Entry& e : handler.entries) {
    CONCORD_TRY(TensorInfo info, check_entry(e, header, file));
    out.tensors.push_back(std::move(info));
  }
  CONCORD_CHECK(check_layout(out.tensors, header, bytes.size(), file));
  return out;
}

}  // namespace concord
