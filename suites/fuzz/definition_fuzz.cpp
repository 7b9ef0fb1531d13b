// An operator's definition with its workloads, a model's dimensions and a formula from hostile bytes: read or refused, in bounded time; every case that comes
// out is unique, canonical and accepted by its own definition.
#include <cstdint>
#include <cstdlib>
#include <set>
#include <string_view>

#include "conformance/suite/workloads.hpp"

namespace {

namespace cc = concord::conformance;

// A property that holds for every input; a breach is reported as a crash.
void require(bool holds) {
  if (!holds) std::abort();
}

const cc::Models& models() {
  static const cc::Models kModels = {{"m", {"m", {.numbers = {{"hidden", 12}, {"heads", 4}}, .words = {{"eps", "1e-5"}}}}}};
  return kModels;
}

void read_operator(const concord::JsonFields& fields) {
  const auto definition = cc::read_definition(fields);
  if (!definition) return require(!definition.error().code.empty() && !definition.error().message.empty());
  const auto cases = cc::read_workloads(*definition, models(), fields);
  if (!cases) return require(!cases.error().code.empty() && !cases.error().message.empty());
  require(cases->size() <= cc::kMaxCasesPerFile);
  std::set<std::string> ids;
  for (const cc::PlannedCase& c : *cases) {
    require(ids.insert(c.id).second);
    require(definition->check(c.spec).has_value());
    const auto parsed = cc::CaseSpec::parse(c.id);
    require(parsed ? *parsed == c.spec : c.id.size() > 1024);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto e = cc::Expression::parse(text)) (void)e->evaluate(models().at("m").names);
  const auto json = concord::parse_json(text, "fuzz", "suite");
  if (!json) return 0;
  const auto fields = concord::JsonFields::from(*json, "fuzz", "suite");
  if (!fields) return 0;
  (void)cc::read_model(*fields);
  read_operator(*fields);
  return 0;
}
