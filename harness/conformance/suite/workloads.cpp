#include "conformance/suite/workloads.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "base/text.hpp"
#include "conformance/suite/coverage.hpp"

namespace concord::conformance {
namespace {

namespace fs = std::filesystem;
constexpr std::size_t kMaxModels = 64, kMaxDimensions = 64, kMaxWorkloads = 256, kMaxTags = 16;

// Extents of a case, and the model that they were taken from, if any.
struct Shape {
  std::map<std::string, std::int64_t> axes;
  const ModelDimensions* model = nullptr;
};

struct Workload {
  std::string name;
  Tier tier = Tier::kSmoke;
  std::vector<std::string> tags;
  Cover cover = Cover::kProduct;
  std::vector<const ModelDimensions*> models;  // one null where the workload names none
  std::vector<Shape> shapes;
  std::map<std::string, std::vector<std::int64_t>> axes;  // lists of their own, in place of shapes
  std::vector<std::map<std::string, std::vector<std::string>>> options;
};

bool is_tag(std::string_view t) {
  const auto good = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-' || c == ':'; };
  return !t.empty() && t.size() <= 64 && std::ranges::all_of(t, good) && t.find(':') != std::string_view::npos;
}

std::unexpected<Error> in_workload(const std::string& name, const JsonFields& f, const Error& e) {
  return bad_input(e.code, fmt::format("workload \"{}\": {}", printable(name), e.message), f.file());
}

Status read_models(Workload& w, const Models& models, const JsonFields& f) {
  w.models = {nullptr};
  if (!f.has("models")) return {};
  w.models.clear();
  CONCORD_TRY(const std::vector<std::string> names, f.strings("models"));
  for (const std::string& name : names) {
    const auto it = models.find(name);
    if (it == models.end()) return f.error("unknown_model", fmt::format("workload \"{}\": there are no dimensions of a model \"{}\"", w.name, printable(name)));
    w.models.push_back(&it->second);
  }
  if (w.models.empty()) return f.error("out_of_range", fmt::format("workload \"{}\" lists no model", w.name));
  return {};
}

// One extent: a number, or a formula over the model's dimensions.
Result<std::int64_t> read_extent(const Json& value, const ModelDimensions* model, const JsonFields& f) {
  if (value.is_number_integer() && value >= 0 && value <= (std::int64_t{1} << 31)) return value.get<std::int64_t>();
  if (!value.is_string()) return f.error("wrong_type", "an extent is an integer of 0 to 2^31 or a formula in quotes");
  CONCORD_TRY(const Expression e, Expression::parse(value.get_ref<const std::string&>()));
  return e.evaluate_extent(model ? model->names : Names{});
}

// An object of axes, each with an extent or a list of them.
Result<std::map<std::string, std::vector<std::int64_t>>> read_axis_lists(const ModelDimensions* model, const JsonFields& f) {
  std::map<std::string, std::vector<std::int64_t>> lists;
  for (const auto& [key, value] : f.json().items()) {
    if (!is_axis_key(key)) return f.error("bad_key", fmt::format("\"{}\" in a shape is no axis (one capital letter)", printable(key)));
    const Json list = value.is_array() ? value : Json::array({value});
    if (list.empty() || list.size() > kMaxCasesPerFile) return f.error("out_of_range", fmt::format("axis {} has no extent, or too many", key));
    for (const Json& one : list) {
      CONCORD_TRY(const std::int64_t extent, read_extent(one, model, f));
      lists[key].push_back(extent);
    }
  }
  if (lists.empty()) return f.error("out_of_range", "a shape without axes");
  return lists;
}

// One object of "shapes": all combinations of its extents.
Status read_shape(Workload& w, const ModelDimensions* model, const JsonFields& f) {
  CONCORD_TRY(const auto lists, read_axis_lists(model, f));
  std::vector<std::size_t> sizes;
  for (const auto& [key, list] : lists) sizes.push_back(list.size());
  CONCORD_TRY(const auto all, combinations(Cover::kProduct, sizes, kMaxCasesPerFile - std::min(kMaxCasesPerFile, w.shapes.size())));
  for (const auto& indices : all) {
    Shape shape{{}, model};
    std::size_t k = 0;
    for (const auto& [key, list] : lists) shape.axes[key] = list[indices[k++]];
    w.shapes.push_back(std::move(shape));
  }
  return {};
}

// "shapes", whose extents belong together, or "axes", whose extents are independent lists.
Status read_extents(Workload& w, const JsonFields& f) {
  if (f.has("axes")) {
    if (f.has("shapes") || f.has("models")) return f.error("contradiction", "\"axes\" stands alone: neither \"shapes\" nor \"models\" beside it");
    CONCORD_TRY(const JsonFields axes, f.object("axes"));
    CONCORD_TRY(w.axes, read_axis_lists(nullptr, axes));
    w.shapes.emplace_back();
    return {};
  }
  CONCORD_TRY(const std::vector<JsonFields> shapes, f.objects("shapes"));
  for (const ModelDimensions* model : w.models)
    for (const JsonFields& shape : shapes) CONCORD_CHECK(read_shape(w, model, shape));
  return {};
}

Result<std::map<std::string, std::vector<std::string>>> read_option_lists(const JsonFields& f) {
  std::map<std::string, std::vector<std::string>> lists;
  if (f.json().size() > kMaxDimensions) return f.error("out_of_range", "too many options");
  for (const auto& [key, ignored] : f.json().items()) {
    CONCORD_TRY(lists[key], f.strings(key));
    if (lists[key].empty()) return f.error("out_of_range", fmt::format("option {} has no value", printable(key)));
  }
  return lists;
}

Status read_options(Workload& w, const JsonFields& f) {
  if (f.has("options") && f.raw("options").is_array()) {
    CONCORD_TRY(const std::vector<JsonFields> all, f.objects("options"));
    for (const JsonFields& one : all) {
      CONCORD_TRY(auto lists, read_option_lists(one));
      w.options.push_back(std::move(lists));
    }
    return {};
  }
  CONCORD_TRY(const JsonFields one, f.object("options"));
  CONCORD_TRY(auto lists, read_option_lists(one));
  w.options.push_back(std::move(lists));
  return {};
}

Result<Workload> read_workload(const Models& models, const JsonFields& f) {
  CONCORD_CHECK(f.only({"name", "about", "tier", "tags", "models", "shapes", "axes", "options", "cover"}));
  Workload w;
  CONCORD_TRY(w.name, f.string("name"));
  CONCORD_CHECK(f.string_or("about", ""));
  CONCORD_TRY(const std::string tier, f.string("tier"));
  CONCORD_TRY(w.tier, tier_from_name(tier));
  if (f.has("tags")) {
    CONCORD_TRY(w.tags, f.strings("tags"));
  }
  if (w.tags.size() > kMaxTags || !std::ranges::all_of(w.tags, is_tag))
    return f.error("out_of_range", fmt::format("workload \"{}\": tags are words with a colon, such as \"stage:decode\", at most {}", printable(w.name), kMaxTags));
  CONCORD_TRY(const std::string cover, f.string_or("cover", "product"));
  CONCORD_TRY(w.cover, cover_from_name(cover));
  CONCORD_CHECK(read_models(w, models, f));
  if (auto read = read_extents(w, f); !read) return in_workload(w.name, f, read.error());
  CONCORD_CHECK(read_options(w, f));
  return w;
}

// "$eps": the model's own word.
Result<std::string> resolve_word(const std::string& word, const ModelDimensions* model) {
  if (!word.starts_with('$')) return word;
  if (model)
    if (const auto it = model->names.words.find(word.substr(1)); it != model->names.words.end()) return it->second;
  return bad_input("suite.unknown_word", fmt::format("no model gives a word for {}", printable(word)));
}

// The cases of one workload under one set of option lists.
Status expand(const Definition& d, const Workload& w, const std::map<std::string, std::vector<std::string>>& options, std::vector<PlannedCase>& out) {
  std::vector<std::size_t> sizes{w.shapes.size()};
  for (const auto& [key, extents] : w.axes) sizes.push_back(extents.size());
  for (const auto& [key, words] : options) sizes.push_back(words.size());
  CONCORD_TRY(const auto all, combinations(w.cover, sizes, kMaxCasesPerFile - std::min(kMaxCasesPerFile, out.size())));
  for (const auto& indices : all) {
    const Shape& shape = w.shapes[indices[0]];
    CaseSpec spec{.op = d.op, .axes = shape.axes, .options = {}};
    std::size_t k = 0;
    for (const auto& [key, extents] : w.axes) spec.axes[key] = extents[indices[++k]];
    for (const auto& [key, words] : options) {
      CONCORD_TRY(spec.options[key], resolve_word(words[indices[++k]], shape.model));
    }
    CONCORD_TRY(PlannedCase c, d.plan(spec));
    c.tier = w.tier, c.tags = w.tags;
    if (shape.model) c.tags.push_back("model:" + shape.model->model);
    out.push_back(std::move(c));
  }
  return {};
}

// Equal ids become one case: the lower tier, the tags of all.
std::vector<PlannedCase> merged(std::vector<PlannedCase> all) {
  std::map<std::string, PlannedCase> by_id;
  for (PlannedCase& c : all) {
    const auto [it, is_new] = by_id.try_emplace(c.id, c);
    if (is_new) continue;
    it->second.tier = std::min(it->second.tier, c.tier);
    it->second.tags.insert(it->second.tags.end(), c.tags.begin(), c.tags.end());
  }
  std::vector<PlannedCase> out;
  for (auto& [id, c] : by_id) {
    const std::set<std::string> tags(c.tags.begin(), c.tags.end());
    c.tags.assign(tags.begin(), tags.end());
    out.push_back(std::move(c));
  }
  return out;
}

}  // namespace

Result<ModelDimensions> read_model(const JsonFields& f) {
  CONCORD_CHECK(f.schema("concord.dimensions/1"));
  CONCORD_CHECK(f.only({"schema", "model", "source", "note", "dimensions", "words"}));
  ModelDimensions m;
  CONCORD_TRY(m.model, f.string("model"));
  if (!is_tag("model:" + m.model)) return f.error("out_of_range", "a model's name is a word of [a-z0-9._-]");
  CONCORD_CHECK(f.string("source"));
  CONCORD_CHECK(f.string_or("note", ""));
  CONCORD_TRY(const JsonFields dimensions, f.object("dimensions"));
  CONCORD_TRY(const JsonFields words, f.object("words"));
  if (dimensions.json().size() + words.json().size() > kMaxDimensions) return f.error("out_of_range", fmt::format("more than {} dimensions", kMaxDimensions));
  for (const auto& [key, ignored] : dimensions.json().items()) {
    CONCORD_TRY(const std::int64_t value, dimensions.integer(key, 0, std::int64_t{1} << 31));
    m.names.numbers[key] = static_cast<double>(value);
  }
  for (const auto& [key, ignored] : words.json().items()) {
    CONCORD_TRY(m.names.words[key], words.string(key));
  }
  return m;
}

Result<Models> load_models(const std::string& folder) {
  Models models;
  std::error_code ec;
  std::set<fs::path> files;
  for (fs::directory_iterator it(folder, ec), end; !ec && it != end; it.increment(ec))
    if (it->path().extension() == ".json") files.insert(it->path());
  if (files.size() > kMaxModels) return bad_input("suite.out_of_range", fmt::format("more than {} models", kMaxModels), folder);
  for (const fs::path& file : files) {
    CONCORD_TRY(const Json json, read_json(file.string(), "suite", 1u << 20));
    CONCORD_TRY(const JsonFields fields, JsonFields::from(json, file.string(), "suite"));
    CONCORD_TRY(ModelDimensions m, read_model(fields));
    const std::string name = m.model;
    if (!models.emplace(name, std::move(m)).second) return bad_input("suite.duplicate_model", fmt::format("a second file describes {}", name), file.string());
  }
  return models;
}

Result<std::vector<PlannedCase>> read_workloads(const Definition& definition, const Models& models, const JsonFields& f) {
  CONCORD_TRY(const std::vector<JsonFields> all, f.objects("workloads"));
  if (all.size() > kMaxWorkloads) return f.error("out_of_range", fmt::format("more than {} workloads", kMaxWorkloads));
  std::vector<PlannedCase> cases;
  std::set<std::string> names;
  for (const JsonFields& one : all) {
    CONCORD_TRY(const Workload w, read_workload(models, one));
    if (!names.insert(w.name).second) return f.error("duplicate_workload", fmt::format("two workloads are called \"{}\"", printable(w.name)));
    for (const auto& options : w.options)
      if (auto expanded = expand(definition, w, options, cases); !expanded) return in_workload(w.name, f, expanded.error());
  }
  return merged(std::move(cases));
}

}  // namespace concord::conformance
