#include "base/json.hpp"

#include <fmt/format.h>

#include <cmath>

#include "base/file.hpp"
#include "base/read_cursor.hpp"

template class nlohmann::basic_json<>;
template class nlohmann::basic_json<nlohmann::ordered_map>;

namespace concord {
namespace {

// Builds the document and stops at the first breach of the rules that nlohmann's own builder lets through.
class StrictBuilder {
 public:
  explicit StrictBuilder(const JsonLimits& limits) : limits_(limits) {}
  Json root;
  std::string problem, detail;  // empty, or the suffix of the error code and what was found
  std::size_t syntax_position = 0;

  bool null() { return put(nullptr); }
  bool boolean(bool v) { return put(v); }
  bool number_integer(Json::number_integer_t v) { return put(v); }
  bool number_unsigned(Json::number_unsigned_t v) { return put(v); }
  bool number_float(Json::number_float_t v, const std::string&) { return put(v); }
  bool string(std::string& v) { return put(std::move(v)); }
  bool binary(Json::binary_t&) { return stop("syntax", "binary value"); }
  bool start_object(std::size_t) { return open(Json::object()); }
  bool start_array(std::size_t) { return open(Json::array()); }
  bool end_object() { return close(); }
  bool end_array() { return close(); }
  bool key(std::string& k) {
    if (stack_.back()->contains(k))
      return stop("duplicate_key", fmt::format("key \"{}\" appears twice in one object", k));
    key_ = std::move(k);
    return true;
  }
  bool parse_error(std::size_t position, const std::string&, const Json::exception& e) {
    syntax_position = position;
    const std::string what = e.what();
    const bool utf8 = what.find("ill-formed UTF-8") != std::string::npos;
    return stop(utf8 ? "not_utf8" : "syntax", what.substr(what.find(']') + 2));
  }

 private:
  bool stop(std::string_view problem_code, std::string text) {
    problem = problem_code;
    detail = std::move(text);
    return false;
  }
  Json* place(Json v) {
    if (stack_.empty()) return &(root = std::move(v));
    Json& top = *stack_.back();
    if (top.is_array()) return &top.emplace_back(std::move(v));
    return &(top[key_] = std::move(v));
  }
  bool put(Json v) {
    if (++count_ > limits_.max_values)
      return stop("too_many_values", fmt::format("more than {} values", limits_.max_values));
    place(std::move(v));
    return true;
  }
  bool open(Json v) {
    if (stack_.size() >= limits_.max_depth)
      return stop("too_deep", fmt::format("nested deeper than {}", limits_.max_depth));
    if (++count_ > limits_.max_values)
      return stop("too_many_values", fmt::format("more than {} values", limits_.max_values));
    stack_.push_back(place(std::move(v)));
    return true;
  }
  bool close() {
    stack_.pop_back();
    return true;
  }

  const JsonLimits& limits_;
  std::vector<Json*> stack_;
  std::string key_;
  std::size_t count_ = 0;
};

}  // namespace

Result<Json> parse_json(std::string_view text, const std::string& file, std::string_view prefix,
                        const JsonLimits& limits, std::uint64_t base_offset) {
  const std::string code(prefix);
  // The parser takes a NUL for the end of its input, so that whatever followed would go unread.
  if (const std::size_t nul = text.find('\0'); nul != std::string_view::npos)
    return bad_input(code + ".syntax", "a NUL byte, which JSON does not allow", file, base_offset + nul);
  const char* reached = text.data();
  StrictBuilder builder(limits);
  const bool ok =
      Json::sax_parse(ReadCursor(text.data(), &reached), ReadCursor(text.data() + text.size(), nullptr), &builder);
  if (ok) return std::move(builder.root);
  const std::size_t position =
      builder.syntax_position > 0 ? builder.syntax_position - 1 : static_cast<std::size_t>(reached - text.data());
  if (builder.detail.size() > 300) builder.detail.resize(300);
  return bad_input(code + "." + (builder.problem.empty() ? "syntax" : builder.problem), builder.detail, file,
                   base_offset + position);
}

Result<Json> read_json(const std::string& file, std::string_view prefix, std::size_t limit) {
  CONCORD_TRY(const std::string text, read_text(file, limit));
  return parse_json(text, file, prefix);
}

Result<JsonFields> JsonFields::from(const Json& value, std::string file, std::string prefix, std::string path) {
  JsonFields fields(value, std::move(file), std::move(prefix), std::move(path));
  if (!value.is_object())
    return fields.error("wrong_type",
                        fmt::format("{} must be an object, found {}",
                                    fields.path_.empty() ? "the document" : fields.path_, value.type_name()));
  return fields;
}

std::unexpected<Error> JsonFields::error(std::string_view suffix, std::string message) const {
  return bad_input(prefix_ + "." + std::string(suffix), std::move(message), file_);
}

std::unexpected<Error> JsonFields::wrong_type(const std::string& key, std::string_view expected) const {
  std::string found = raw(key).dump(-1, ' ', true, Json::error_handler_t::replace);
  if (found.size() > 60) found = found.substr(0, 60) + "...";
  return error("wrong_type", fmt::format("field \"{}\" must be {}, found {}", name(key), expected, found));
}

Result<const Json*> JsonFields::find(const std::string& key) const {
  if (!has(key)) return error("missing_field", fmt::format("field \"{}\" is missing", name(key)));
  return &raw(key);
}

Result<std::int64_t> JsonFields::integer(const std::string& key, std::int64_t min, std::int64_t max) const {
  CONCORD_TRY(const Json* v, find(key));
  const bool fits = v->is_number_integer() &&
                    (!v->is_number_unsigned() || v->get<std::uint64_t>() <= static_cast<std::uint64_t>(INT64_MAX));
  if (!fits) return wrong_type(key, "an integer");
  const auto n = v->get<std::int64_t>();
  if (n < min || n > max)
    return error("out_of_range", fmt::format("field \"{}\" must be in [{}, {}], found {}", name(key), min, max, n));
  return n;
}

Result<std::int64_t> JsonFields::integer_or(const std::string& key, std::int64_t fallback, std::int64_t min,
                                            std::int64_t max) const {
  if (!has(key)) return fallback;
  return integer(key, min, max);
}

Result<double> JsonFields::number(const std::string& key) const {
  CONCORD_TRY(const Json* v, find(key));
  if (!v->is_number() || !std::isfinite(v->get<double>())) return wrong_type(key, "a finite number");
  return v->get<double>();
}

Result<double> JsonFields::number_or(const std::string& key, double fallback) const {
  if (!has(key)) return fallback;
  return number(key);
}

Result<bool> JsonFields::boolean_or(const std::string& key, bool fallback) const {
  if (!has(key)) return fallback;
  if (!raw(key).is_boolean()) return wrong_type(key, "true or false");
  return raw(key).get<bool>();
}

Result<std::string> JsonFields::string(const std::string& key) const {
  CONCORD_TRY(const Json* v, find(key));
  if (!v->is_string()) return wrong_type(key, "a string");
  return v->get<std::string>();
}

Result<std::string> JsonFields::string_or(const std::string& key, std::string fallback) const {
  if (!has(key)) return fallback;
  return string(key);
}

Result<std::vector<std::int64_t>> JsonFields::integers(const std::string& key, std::int64_t min,
                                                       std::int64_t max) const {
  CONCORD_TRY(const Json* v, find(key));
  if (!v->is_array()) return wrong_type(key, "an array of integers");
  std::vector<std::int64_t> out;
  for (const Json& e : *v) {
    if (!e.is_number_integer()) return wrong_type(key, "an array of integers");
    if (e.is_number_unsigned() && e.get<std::uint64_t>() > static_cast<std::uint64_t>(INT64_MAX))
      return wrong_type(key, "an array of 64-bit integers");
    const auto n = e.get<std::int64_t>();
    if (n < min || n > max)
      return error("out_of_range",
                   fmt::format("{}[{}] must be in [{}, {}], found {}", name(key), out.size(), min, max, n));
    out.push_back(n);
  }
  return out;
}

Result<std::vector<std::string>> JsonFields::strings(const std::string& key) const {
  CONCORD_TRY(const Json* v, find(key));
  if (!v->is_array()) return wrong_type(key, "an array of strings");
  std::vector<std::string> out;
  for (const Json& e : *v) {
    if (!e.is_string()) return wrong_type(key, "an array of strings");
    out.push_back(e.get<std::string>());
  }
  return out;
}

Result<JsonFields> JsonFields::object(const std::string& key) const {
  CONCORD_TRY(const Json* v, find(key));
  return from(*v, file_, prefix_, name(key));
}

Result<std::vector<JsonFields>> JsonFields::objects(const std::string& key) const {
  CONCORD_TRY(const Json* v, find(key));
  if (!v->is_array()) return wrong_type(key, "an array of objects");
  std::vector<JsonFields> out;
  for (const Json& e : *v) {
    CONCORD_TRY(JsonFields fields, from(e, file_, prefix_, fmt::format("{}[{}]", name(key), out.size())));
    out.push_back(std::move(fields));
  }
  return out;
}

Status JsonFields::only(const std::set<std::string>& known) const {
  for (const auto& [key, unused] : value_->items())
    if (!known.contains(key)) return error("unknown_field", fmt::format("field \"{}\" is not known here", name(key)));
  return {};
}

Status JsonFields::schema(const std::string& expected) const {
  CONCORD_TRY(const std::string found, string("schema"));
  if (found != expected)
    return error(
        "schema_version",
        fmt::format("expected schema \"{}\", found \"{}\"; this build reads no other version", expected, found));
  return {};
}

}  // namespace concord
