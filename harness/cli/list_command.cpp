// `concord list`: the cases of the operator suite. `concord plan`: which of them each device would run, and required lists from what devices support.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>

#include "base/file.hpp"
#include "base/json.hpp"
#include "base/text.hpp"
#include "cli/case_arguments.hpp"
#include "cli/command.hpp"
#include "conformance/numerics/problem.hpp"
#include "conformance/suite/definition.hpp"
#include "conformance/suite/folders.hpp"
#include "conformance/suite/required.hpp"

namespace concord::cli {
namespace {

using conformance::Definition;
using conformance::PlannedCase;
using conformance::RequiredList;

// "1.2 M": three figures at most, for people.
std::string short_number(double value) {
  constexpr const char* kUnits[] = {"", " k", " M", " G", " T", " P"};
  std::size_t unit = 0;
  for (; value >= 1000 && unit + 1 < std::size(kUnits); value /= 1000) ++unit;
  return fmt::format("{:.3g}{}", value, kUnits[unit]);
}

// On standard output. A reader that has gone away (`| head`) is no error.
Status print_text(const std::string& text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0) return {};
  if (errno == EPIPE) return {};
  return fail(ErrorKind::kIo, "file.write", "cannot write to standard output");
}

// ---------------------------------------------------------------- list

struct ListOptions {
  CaseArguments cases;
  bool json = false, operators = false;
};

OrderedJson case_json(const PlannedCase& c) {
  return {{"id", c.id}, {"tier", conformance::tier_name(c.tier)}, {"family", c.family}, {"operator", c.spec.op}, {"flops", c.flops}, {"bytes", c.bytes}, {"tags", c.tags}};
}

OrderedJson definition_json(const Definition& d) {
  OrderedJson axes = OrderedJson::object(), options = OrderedJson::object();
  for (const auto& [key, rule] : d.axes) axes[key] = {{"min", rule.min}, {"max", rule.max}, {"about", rule.about}};
  for (const auto& [key, rule] : d.options) options[key] = {{"words", rule.words}, {"about", rule.about}};
  std::vector<std::string> constraints;
  for (const auto& c : d.constraints) constraints.push_back(c.text());
  for (const auto& i : d.implications) constraints.push_back(fmt::format("{}={}: {} is {}", i.key, i.word, i.then, fmt::join(i.words, " or ")));
  return {{"operator", d.op}, {"family", d.family}, {"summary", d.summary}, {"axes", axes}, {"options", options}, {"constraints", constraints},
          {"bytes", d.bytes.text()}, {"flops", d.flops.text()}};
}

std::string definition_text(const Definition& d) {
  std::string text = fmt::format("{} ({})\n  {}\n", d.op, d.family, d.summary);
  for (const auto& [key, rule] : d.axes) text += fmt::format("  {:<6}{} (from {})\n", key, rule.about, rule.min);
  for (const auto& [key, rule] : d.options) text += fmt::format("  {:<6}{}: {}\n", key, rule.about, fmt::join(rule.words, " "));
  for (const auto& c : d.constraints) text += fmt::format("  only  {}\n", c.text());
  for (const auto& i : d.implications) text += fmt::format("  only  {}={} with {}={}\n", i.key, i.word, i.then, fmt::join(i.words, "|"));
  return text + fmt::format("  bytes {}\n  flops {}\n", d.bytes.text(), d.flops.text());
}

Status run_operators(const ListOptions& o) {
  CONCORD_TRY(const conformance::OperatorSuite suite, conformance::OperatorSuite::load());
  OrderedJson all = OrderedJson::array();
  const auto named = [](const std::vector<std::string>& names, const std::string& name) {
    return names.empty() || std::ranges::find(names, name) != names.end();
  };
  std::string text;
  for (const Definition& d : suite.definitions()) {
    if (!named(o.cases.operators, d.op) || !named(o.cases.families, d.family)) continue;
    if (o.json) all.push_back(definition_json(d));
    text += definition_text(d);
  }
  if (text.empty())
    return fail(ErrorKind::kNothingRun, "select.nothing", fmt::format("no operator is of these names; the suite has {}", fmt::join(suite.operators(), ", ")));
  if (o.json) text = OrderedJson{{"schema", "concord.operators/1"}, {"operators", all}}.dump(2) + "\n";
  return print_text(text);
}

Status run_list(const ListOptions& o) {
  if (o.operators) return run_operators(o);
  CONCORD_TRY(const SelectedCases selected, open_cases(o.cases));
  if (o.json) {
    OrderedJson cases = OrderedJson::array();
    for (const PlannedCase& c : selected.cases) cases.push_back(case_json(c));
    return print_text(OrderedJson{{"schema", "concord.cases/1"}, {"count", selected.cases.size()}, {"cases", cases}}.dump(2) + "\n");
  }
  std::string text;
  for (const PlannedCase& c : selected.cases)
    text += fmt::format("{}  {}  {}  {} flop  {} B  {}\n", c.id, conformance::tier_name(c.tier), c.family, short_number(c.flops), short_number(c.bytes),
               fmt::join(c.tags, " "));
  CONCORD_CHECK(print_text(text));
  fmt::print(stderr, "{} cases\n", selected.cases.size());
  return {};
}

// ---------------------------------------------------------------- plan

struct PlanOptions {
  CaseArguments cases;
  bool json = false;
  std::string lock, lists, witness;
};

struct Unsupported {
  std::string id, reason;
};

// What one device would do with the selection.
struct DevicePlan {
  std::string device, device_name, list;  // list: name of the required list; empty: none
  std::size_t required = 0, missing = 0;  // ids of the list; of those, outside the selection or not supported
  std::vector<const PlannedCase*> supported;
  std::vector<Unsupported> unsupported;
};

// Why the device would not run the case, from its own answers; empty: it would. Weights are made too (of zeros), because a device may refuse their form only
// there. A case with an empty extent belongs to every device that would serve its dtypes: it must be refused as invalid.
Result<std::optional<std::string>> refusal(Device& device, const PlannedCase& c) {
  const auto reason = [](const Error& e) -> Result<std::optional<std::string>> {
    if (e.kind == ErrorKind::kUnsupported) return std::optional(e.message);
    return std::unexpected(e);
  };
  CONCORD_TRY(const conformance::Problem problem, conformance::make_problem(c.spec));
  concord_call call = problem.call;
  if (const auto answer = device.supports(call); !answer && !(problem.expect_refusal && answer.error().code == "device.invalid_call"))
    return reason(answer.error());
  if (!problem.weight) return std::optional<std::string>{};
  const std::vector<std::byte> zeros(problem.input_bytes);
  const auto weight = device.create_weight(conformance::weight_desc(*problem.weight, zeros));
  const bool refused = !weight && problem.expect_refusal && weight.error().code == "device.invalid_call";
  if (!weight && !refused) return reason(weight.error());
  if (problem.expect_refusal) return std::optional<std::string>{};
  call.weight = weight->get();
  if (const auto answer = device.supports(call); !answer) return reason(answer.error());
  return std::optional<std::string>{};
}

Result<DevicePlan> plan_device(const Backends& backends, const std::string& id, const SelectedCases& selected, const std::vector<RequiredList>& lists) {
  CONCORD_TRY(Device device, backends.open(id, 1));
  DevicePlan plan{.device = id, .device_name = device.facts().name};
  for (const PlannedCase& c : selected.cases) {
    if (Context::stop()) return fail(ErrorKind::kInterrupted, "plan.interrupted", "interrupted");
    CONCORD_TRY(const std::optional<std::string> reason, refusal(device, c));
    if (reason) plan.unsupported.push_back({c.id, *reason});
    else plan.supported.push_back(&c);
  }
  CONCORD_TRY(const std::optional<RequiredList> list, conformance::required_for(lists, id, selected.selection.tier));
  if (!list) return plan;
  plan.list = list->name, plan.required = list->ids.size();
  std::vector<std::string> ids;
  for (const PlannedCase* c : plan.supported) ids.push_back(c->id);
  std::ranges::sort(ids);
  for (const std::string& wanted : list->ids) plan.missing += !std::ranges::binary_search(ids, wanted);
  return plan;
}

struct Totals {
  std::size_t cases = 0;
  double flops = 0, bytes = 0;
};
std::map<std::string, Totals> by_family(const std::vector<const PlannedCase*>& cases) {
  std::map<std::string, Totals> out;
  for (const PlannedCase* c : cases) {
    Totals& t = out[c->family];
    ++t.cases, t.flops += c->flops, t.bytes += c->bytes;
  }
  return out;
}

std::string plan_text(const DevicePlan& p) {
  std::string text = fmt::format("{} ({}): {} cases, {} not supported\n", p.device, printable(p.device_name), p.supported.size(), p.unsupported.size());
  for (const auto& [family, t] : by_family(p.supported))
    text += fmt::format("  {:<12}{:>6} cases {:>10} flop {:>10} B\n", family, t.cases, short_number(t.flops), short_number(t.bytes));
  std::map<std::string, std::size_t> reasons;
  for (const Unsupported& u : p.unsupported) ++reasons[u.reason];
  constexpr std::size_t kShown = 8;
  std::size_t shown = 0;
  for (const auto& [reason, count] : reasons)
    if (shown++ < kShown) text += fmt::format("  not supported: {} cases: {}\n", count, printable(reason, 200));
  if (reasons.size() > kShown) text += fmt::format("  and for {} other reasons (--json has all)\n", reasons.size() - kShown);
  if (p.list.empty()) text += fmt::format("  no required list for this device and tier\n");
  else text += fmt::format("  required by {}: {}{}\n", p.list, p.required, p.missing ? fmt::format(", of which {} are not in this plan", p.missing) : "");
  return text;
}

OrderedJson plan_json(const DevicePlan& p) {
  OrderedJson families = OrderedJson::object(), unsupported = OrderedJson::array(), cases = OrderedJson::array();
  for (const auto& [family, t] : by_family(p.supported)) families[family] = {{"cases", t.cases}, {"flops", t.flops}, {"bytes", t.bytes}};
  for (const Unsupported& u : p.unsupported) unsupported.push_back({{"id", u.id}, {"reason", u.reason}});
  for (const PlannedCase* c : p.supported) cases.push_back(c->id);
  return {{"device", p.device}, {"name", p.device_name}, {"families", families}, {"required_list", p.list}, {"required", p.required},
          {"required_not_planned", p.missing}, {"cases", cases}, {"unsupported", unsupported}};
}

// --lock: what every one of the devices supports, as a required list.
Result<RequiredList> make_list(const PlanOptions& o, const SelectedCases& selected, const std::vector<DevicePlan>& plans) {
  RequiredList list;
  list.name = o.lock, list.tier = selected.selection.tier, list.witness = o.witness;
  std::map<std::string, std::size_t> supporters;
  for (const DevicePlan& p : plans) {
    list.devices.push_back(p.device);
    for (const PlannedCase* c : p.supported) ++supporters[c->id];
  }
  for (const auto& [id, count] : supporters)
    if (count == plans.size()) list.ids.push_back(id);
  if (list.ids.empty()) return fail(ErrorKind::kNothingRun, "plan.nothing", "no case is supported by every one of the devices: a list without cases requires nothing");
  list.digest = conformance::ids_digest(list.ids);
  return RequiredList::parse(list.to_text(), o.lock + ".lock");  // what is written can be read
}

Status write_list(const PlanOptions& o, const SelectedCases& selected, const std::vector<DevicePlan>& plans) {
  const conformance::Selection& s = selected.selection;
  if (!s.ids.empty() || !s.families.empty() || !s.operators.empty() || !s.pattern.empty() || s.ad_hoc())
    return fail(ErrorKind::kUsage, "plan.partial_list", "a required list is of a whole tier: use --lock with --tier and --backends only");
  if (o.witness.empty())
    return fail(ErrorKind::kUsage, "plan.no_witness", "--lock needs --witness PATTERN, globs that every kernel's name must match, such as \"*: cpu {variant} *\"");
  if (o.lock.empty() || o.lock.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789._-") != std::string::npos)
    return fail(ErrorKind::kUsage, "plan.bad_name", fmt::format("\"{}\" is no name of a list; expected a word of [a-z0-9._-]", printable(o.lock)));
  CONCORD_TRY(const RequiredList list, make_list(o, selected, plans));
  const std::filesystem::path file = std::filesystem::path(o.lists.empty() ? conformance::data_folder("required") : o.lists) / (o.lock + ".lock");
  std::error_code ignored;
  std::filesystem::create_directories(file.parent_path(), ignored);
  CONCORD_CHECK(write_atomically(file, list.to_text()));
  fmt::print(stderr, "{}: {} cases required of {}\n", file.string(), list.ids.size(), fmt::join(list.devices, ", "));
  return {};
}

Status run_plan(const PlanOptions& o) {
  CONCORD_TRY(const SelectedCases selected, open_cases(o.cases));
  const Backends backends = Backends::discover();
  CONCORD_TRY(const std::vector<std::string> devices, choose_case_devices(backends, o.cases));
  CONCORD_TRY(const std::vector<RequiredList> lists, conformance::load_required(o.lists));
  std::vector<DevicePlan> plans;
  for (const std::string& id : devices) {
    CONCORD_TRY(DevicePlan plan, plan_device(backends, id, selected, lists));
    plans.push_back(std::move(plan));
  }
  if (o.json) {
    OrderedJson all = OrderedJson::array();
    for (const DevicePlan& p : plans) all.push_back(plan_json(p));
    CONCORD_CHECK(print_text(OrderedJson{{"schema", "concord.plan/1"}, {"tier", conformance::tier_name(selected.selection.tier)}, {"devices", all}}.dump(2) + "\n"));
  } else {
    std::string text;
    for (const DevicePlan& p : plans) text += plan_text(p);
    CONCORD_CHECK(print_text(text));
  }
  return o.lock.empty() ? Status{} : write_list(o, selected, plans);
}

}  // namespace

void add_list_command(CLI::App& root, Context& context) {
  auto options = std::make_shared<ListOptions>();
  CLI::App* command = root.add_subcommand("list", "Show the cases of the operator suite");
  add_case_options(*command, options->cases);
  command->add_flag("--operators", options->operators, "Show the operators' definitions instead");
  command->add_flag("--json", options->json, "Print one JSON document");
  command->callback([options, &context] {
    if (const auto done = run_list(*options); !done) context.fail(done.error());
  });
}

void add_plan_command(CLI::App& root, Context& context) {
  auto options = std::make_shared<PlanOptions>();
  CLI::App* command = root.add_subcommand("plan", "Show which cases each device would run, what is required of it, and write required lists");
  add_case_options(*command, options->cases);
  add_device_option(*command, options->cases);
  command->add_flag("--json", options->json, "Print one JSON document");
  command->add_option("--lists", options->lists, "Folder with required lists, read and written instead of the suite's own")->check(CLI::ExistingDirectory);
  command->add_option("--lock", options->lock, "Write NAME.lock into the folder of required lists: the cases of the tier that all of the devices support");
  command->add_option("--witness", options->witness, "With --lock: globs that every kernel's name must match, separated by \" | \"");
  command->callback([options, &context] {
    if (const auto done = run_plan(*options); !done) context.fail(done.error());
  });
}

}  // namespace concord::cli
