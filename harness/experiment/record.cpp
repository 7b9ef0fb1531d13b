#include "experiment/record.hpp"

#include <fmt/format.h>

#include <cmath>

namespace concord {
OrderedJson to_json(const TokenResult& t) {
  return {{"tokens", t.tokens},
          {"within", t.within},
          {"equal", t.equal},
          {"margin_max", std::isinf(t.margin_max) ? OrderedJson() : OrderedJson(t.margin_max)},  // null: an ineligible token
          {"margin_mean", t.margin_mean},
          {"rank_max", t.rank_max},
          {"accepted", t.accepted}};
}

std::string Record::to_line() const {
  OrderedJson j{{"schema", kRecordSchema}, {"id", id}, {"experiment", experiment}, {"status", status_name(status)}, {"reason", reason}};
  for (const auto& [key, value] : body.items()) j[key] = value;
  return j.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
}

Result<Record> Record::from_line(std::string_view line, const std::string& file, std::size_t line_number) {
  const auto named = [&](Error e) {
    e.message = fmt::format("line {}: {}", line_number, e.message);
    return std::unexpected(std::move(e));
  };
  auto json = parse_json(line, file, "record", {.max_depth = 16, .max_values = 200'000});
  if (!json) return named(json.error());
  const auto f = JsonFields::from(*json, file, "record");
  if (!f) return named(f.error());
  if (auto s = f->schema(kRecordSchema); !s) return named(s.error());
  Record r;
  const std::pair<const char*, std::string*> texts[] = {{"id", &r.id}, {"experiment", &r.experiment}, {"reason", &r.reason}};
  for (const auto& [key, target] : texts) {
    auto value = f->string(key);
    if (!value) return named(value.error());
    *target = std::move(*value);
  }
  const auto status_text = f->string("status");
  if (!status_text) return named(status_text.error());
  const auto status = status_from_name(*status_text);
  if (!status) return named(status.error());
  r.status = *status;
  r.body = OrderedJson::object();
  for (const auto& [key, value] : json->items())
    if (key != "schema" && key != "id" && key != "experiment" && key != "status" && key != "reason") r.body[key] = value;
  return r;
}

Result<Journal> parse_journal(std::string_view text, const std::string& file) { return parse_journal_of<Record>(text, file); }

Result<Journal> read_journal(const std::string& file) { return read_journal_of<Record>(file); }

}  // namespace concord
