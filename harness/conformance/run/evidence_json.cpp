// Evidence as JSON and back. Infinities and NaN, which JSON does not have, are the strings "inf", "-inf" and "nan".
#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <optional>

#include "conformance/run/evidence.hpp"

namespace concord::conformance {
namespace {

constexpr std::int64_t kAny = std::numeric_limits<std::int64_t>::max();

OrderedJson number_json(double v) {
  if (std::isnan(v)) return "nan";
  if (std::isinf(v)) return v > 0 ? "inf" : "-inf";
  return v;
}

OrderedJson coordinates_json(const Coordinates& c) {
  return {{"index", c.index},
          {"at", c.at},
          {"got", number_json(c.got)},
          {"want", number_json(c.want)},
          {"rigorous", number_json(c.rigorous)},
          {"probable", number_json(c.probable)}};
}

OrderedJson findings_json(const OutputFindings& f) {
  return {{"name", f.name},
          {"judged", f.judged},
          {"elements", f.elements},
          {"guard_bytes", f.guard_bytes},
          {"guard_first", f.guard_first},
          {"unwritten", f.unwritten},
          {"nonfinite", f.nonfinite},
          {"above_rigorous", f.above_rigorous},
          {"above_probable", f.above_probable},
          {"max_error", number_json(f.max_error)},
          {"margin", number_json(f.margin)},
          {"margin_probable", number_json(f.margin_probable)},
          {"degenerate", f.degenerate},
          {"first", coordinates_json(f.first)},
          {"worst", coordinates_json(f.worst)}};
}

OrderedJson again_json(const Repetitions& r) {
  return {{"repeats", r.repeats}, {"repeats_equal", r.repeats_equal},
          {"threads", r.threads}, {"threads_equal", r.threads_equal},
          {"rows", r.rows},       {"rows_equal", r.rows_equal}};
}

// Reads the fields of one object one after the other and keeps the first error.
class Reader {
 public:
  explicit Reader(const JsonFields& fields) : fields_(fields) {}

  template <class T>
  Reader& count(const char* key, T& to) {
    return integer(key, to, 0, std::min<std::uint64_t>(std::numeric_limits<T>::max(), kAny));
  }
  template <class T>
  Reader& integer(const char* key, T& to, std::int64_t min, std::int64_t max) {
    return take(fields_.integer(key, min, max), [&](std::int64_t v) { to = static_cast<T>(v); });
  }
  Reader& text(const char* key, std::string& to) {
    return take(fields_.string(key), [&](std::string v) { to = std::move(v); });
  }
  Reader& texts(const char* key, std::vector<std::string>& to) {
    return take(fields_.strings(key), [&](std::vector<std::string> v) { to = std::move(v); });
  }
  template <class T>
  Reader& integers(const char* key, std::vector<T>& to, std::int64_t min, std::int64_t max) {
    return take(fields_.integers(key, min, max),
                [&](const std::vector<std::int64_t>& v) { to.assign(v.begin(), v.end()); });
  }
  Reader& flag(const char* key, bool& to) {
    if (!error_ && !fields_.has(key))
      error_ = fields_.error("missing_field", fmt::format("field \"{}\" is missing", key)).error();
    return take(fields_.boolean_or(key, false), [&](bool v) { to = v; });
  }
  Reader& number(const char* key, double& to) {
    if (error_ || !fields_.has(key) || !fields_.raw(key).is_string())
      return take(fields_.number(key), [&](double v) { to = v; });
    const std::string word = fields_.raw(key).get<std::string>();
    if (word == "inf" || word == "-inf")
      to = (word[0] == '-' ? -1 : 1) * std::numeric_limits<double>::infinity();
    else if (word == "nan")
      to = std::numeric_limits<double>::quiet_NaN();
    else
      error_ =
          fields_.error("wrong_type", fmt::format("field \"{}\" must be a number, \"inf\", \"-inf\" or \"nan\"", key))
              .error();
    return *this;
  }
  template <class T>
  Reader& object(const char* key, T& to, Result<T> (*read)(const JsonFields&)) {
    if (error_) return *this;
    const Result<JsonFields> fields = fields_.object(key);
    return fields ? take(read(*fields), [&](T v) { to = std::move(v); })
                  : take(Result<T>(std::unexpected(fields.error())), [](T) {});
  }
  Status only(const std::set<std::string>& known) const {
    if (error_) return std::unexpected(*error_);
    return fields_.only(known);
  }

 private:
  template <class T, class F>
  Reader& take(Result<T> value, const F& use) {
    if (error_) return *this;
    if (value)
      use(std::move(*value));
    else
      error_ = std::move(value).error();
    return *this;
  }
  const JsonFields& fields_;
  std::optional<Error> error_;
};

Result<Coordinates> coordinates_from_json(const JsonFields& f) {
  Coordinates c;
  Reader r(f);
  r.count("index", c.index).integers("at", c.at, 0, kAny).number("got", c.got).number("want", c.want);
  r.number("rigorous", c.rigorous).number("probable", c.probable);
  CONCORD_CHECK(r.only({"index", "at", "got", "want", "rigorous", "probable"}));
  return c;
}

Result<OutputFindings> findings_from_json(const JsonFields& f) {
  OutputFindings o;
  Reader r(f);
  r.text("name", o.name).text("judged", o.judged).count("elements", o.elements).count("guard_bytes", o.guard_bytes);
  r.integer("guard_first", o.guard_first, -kAny, kAny).count("unwritten", o.unwritten).count("nonfinite", o.nonfinite);
  r.count("above_rigorous", o.above_rigorous)
      .count("above_probable", o.above_probable)
      .number("max_error", o.max_error);
  r.number("margin", o.margin).number("margin_probable", o.margin_probable).flag("degenerate", o.degenerate);
  r.object("first", o.first, coordinates_from_json).object("worst", o.worst, coordinates_from_json);
  CONCORD_CHECK(
      r.only({"name", "judged", "elements", "guard_bytes", "guard_first", "unwritten", "nonfinite", "above_rigorous",
              "above_probable", "max_error", "margin", "margin_probable", "degenerate", "first", "worst"}));
  return o;
}

Result<Repetitions> again_from_json(const JsonFields& f) {
  Repetitions a;
  Reader r(f);
  r.count("repeats", a.repeats).count("repeats_equal", a.repeats_equal).integers("threads", a.threads, 0, UINT32_MAX);
  r.integers("threads_equal", a.threads_equal, 0, UINT32_MAX).count("rows", a.rows).count("rows_equal", a.rows_equal);
  CONCORD_CHECK(r.only({"repeats", "repeats_equal", "threads", "threads_equal", "rows", "rows_equal"}));
  return a;
}

}  // namespace

OrderedJson to_json(const Evidence& e) {
  OrderedJson outputs = OrderedJson::array();
  for (const OutputFindings& f : e.outputs) outputs.push_back(findings_json(f));
  return {{"outcome", outcome_name(e.outcome)},
          {"message", e.message},
          {"kernel", e.kernel},
          {"other_kernels", e.other_kernels},
          {"fallbacks", e.fallbacks},
          {"declared", e.declared},
          {"again", again_json(e.again)},
          {"changed_input", e.changed_input},
          {"outputs", outputs},
          {"output_digest", e.output_digest},
          {"math_mode", e.math_mode},
          {"seconds", number_json(e.seconds)},
          {"expect_refusal", e.expect_refusal}};
}

Result<Evidence> evidence_from_json(const JsonFields& fields) {
  Evidence e;
  std::string outcome;
  Reader r(fields);
  r.text("outcome", outcome)
      .text("message", e.message)
      .text("kernel", e.kernel)
      .texts("other_kernels", e.other_kernels);
  r.count("fallbacks", e.fallbacks)
      .count("declared", e.declared)
      .object("again", e.again, again_from_json)
      .text("changed_input", e.changed_input);
  r.text("output_digest", e.output_digest)
      .text("math_mode", e.math_mode)
      .number("seconds", e.seconds)
      .flag("expect_refusal", e.expect_refusal);
  CONCORD_CHECK(r.only({"outcome", "message", "kernel", "other_kernels", "fallbacks", "declared", "again",
                        "changed_input", "outputs", "output_digest", "math_mode", "seconds", "expect_refusal"}));
  CONCORD_TRY(e.outcome, outcome_from_name(outcome));
  CONCORD_TRY(const auto outputs, fields.objects("outputs"));
  for (const JsonFields& f : outputs) {
    CONCORD_TRY(OutputFindings findings, findings_from_json(f));
    e.outputs.push_back(std::move(findings));
  }
  return e;
}

}  // namespace concord::conformance
