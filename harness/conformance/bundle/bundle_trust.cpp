// What of a bundle is this program's own: operator definitions, required lists, waivers. A list or a waiver that
// somebody brings along excuses nothing here.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>

#include "conformance/bundle/judge_bundle.hpp"
#include "conformance/suite/folders.hpp"

namespace concord::conformance {
namespace fs = std::filesystem;
namespace {

constexpr std::size_t kMaxDefinition = 4u << 20;

// What a case of an operator means. Workloads only say which cases there are, and the plan has those; words for people
// mean nothing.
Result<Json> meaning_of(const std::string& file) {
  CONCORD_TRY(Json json, read_json(file, "suite", kMaxDefinition));
  if (!json.is_object()) return json;
  for (const char* key : {"workloads", "summary"}) json.erase(key);
  for (const char* keys : {"axes", "options"})
    if (const auto found = json.find(keys); found != json.end() && found->is_object())
      for (Json& rule : *found)
        if (rule.is_object()) rule.erase("about");
  return json;
}

bool same_list(const RequiredList& a, const RequiredList& b) {
  return a.name == b.name && a.devices == b.devices && a.tier == b.tier && a.witness == b.witness &&
         a.digest == b.digest;
}

std::string difference(const RequiredList& theirs, const RequiredList& ours) {
  std::vector<std::string> fewer, more, what;
  std::ranges::set_difference(ours.ids, theirs.ids, std::back_inserter(fewer));
  std::ranges::set_difference(theirs.ids, ours.ids, std::back_inserter(more));
  if (!fewer.empty()) what.push_back(fmt::format("it lacks {} cases, the first {}", fewer.size(), fewer.front()));
  if (!more.empty()) what.push_back(fmt::format("it has {} more, the first {}", more.size(), more.front()));
  if (theirs.witness != ours.witness)
    what.push_back(fmt::format("its witness is \"{}\", ours \"{}\"", theirs.witness, ours.witness));
  if (theirs.devices != ours.devices)
    what.push_back(
        fmt::format("it is for {}, ours for {}", fmt::join(theirs.devices, " "), fmt::join(ours.devices, " ")));
  if (theirs.tier != ours.tier) what.push_back("it is of another tier");
  return fmt::format("{}", fmt::join(what, "; "));
}

// Why a list is not trusted; empty: it is.
std::string doubt_about(const RequiredList& list, const std::vector<RequiredList>& trusted) {
  const RequiredList* namesake = nullptr;
  for (const RequiredList& t : trusted) {
    if (same_list(list, t)) return {};
    if (t.name == list.name) namesake = &t;
  }
  if (namesake)
    return fmt::format("the required list {} is NOT the one that this program has: {}", list.name,
                       difference(list, *namesake));
  return fmt::format(
      "the required list {} ({} cases) is not one of this program's; --lists FOLDER names lists to trust", list.name,
      list.ids.size());
}

bool same_waiver(const Waiver& a, const Waiver& b) {
  return a.id == b.id && a.cases == b.cases && a.devices == b.devices && a.statuses == b.statuses &&
         a.bound == b.bound && a.expires == b.expires;
}

template <class T>
Status append(std::vector<T>& to, Result<std::vector<T>> more) {
  if (!more) return std::unexpected(more.error());
  std::ranges::move(*more, std::back_inserter(to));
  return {};
}

// Devices for which the bundle claims no list, though this program has one, are judged by that.
Status add_own_lists(const Bundle& bundle, const std::vector<RequiredList>& own, Trust& trust) {
  const Tier tier = bundle.manifest.tier;
  for (const std::string& device : bundle.manifest.devices) {
    CONCORD_TRY(const auto claimed, required_for(trust.lists, device, tier));
    if (claimed) continue;
    CONCORD_TRY(auto list, required_for(own, device, tier));
    if (!list) {
      trust.notes.push_back(
          fmt::format("{}: neither the bundle nor this program has a required list for it in the tier {}", device,
                      tier_name(tier)));
      continue;
    }
    trust.notes.push_back(
        fmt::format("{}: the bundle claims no required list; judged by this program's {}", device, list->name));
    list->devices = {device};
    trust.lists.push_back(std::move(*list));
  }
  return {};
}

}  // namespace

Result<std::set<std::string>> same_definitions(const Bundle& bundle) {
  std::set<std::string> operators;
  for (const BundleFile& f : bundle.manifest.files) {
    if (!f.path.starts_with("ops/")) continue;
    const std::string theirs_file = bundle.path_of(f.path),
                      ours_file = (fs::path(data_folder("ops")) / f.path.substr(4)).string();
    CONCORD_TRY(const Json theirs, meaning_of(theirs_file));
    const auto ours = meaning_of(ours_file);
    if (!ours)
      return bad_input(
          "bundle.definitions",
          fmt::format("this program has no such definition ({}); judge with the program that made the bundle",
                      ours.error().to_string()),
          theirs_file);
    if (theirs == *ours) {
      operators.insert(theirs.value("operator", ""));
      continue;
    }
    const Json changes = Json::diff(*ours, theirs);
    const std::string field = changes.empty() ? "" : changes.front().value("path", "");
    return bad_input("bundle.definitions",
                     fmt::format("the definition says something else than this program's at {}; judge with the program "
                                 "that made the bundle (manifest.json names it)",
                                 field),
                     theirs_file);
  }
  return operators;
}

Result<Trust> trust_in(const Bundle& bundle, const BundleContents& contents, const JudgeSettings& settings) {
  Trust trust{.lists = contents.lists, .doubts = {}, .notes = {}, .foreign_waivers = {}};
  CONCORD_TRY(const std::vector<RequiredList> own, load_required());
  std::vector<RequiredList> trusted = own;
  if (!settings.lists.empty()) CONCORD_CHECK(append(trusted, load_required(settings.lists)));
  CONCORD_TRY(std::vector<Waiver> waivers, load_waivers());
  if (!settings.waivers.empty()) CONCORD_CHECK(append(waivers, load_waivers(settings.waivers)));
  for (const RequiredList& list : contents.lists)
    if (std::string doubt = doubt_about(list, trusted); !doubt.empty()) trust.doubts.push_back(std::move(doubt));
  for (const Waiver& w : contents.waivers)
    if (std::ranges::none_of(waivers, [&](const Waiver& t) { return same_waiver(w, t); }))
      trust.foreign_waivers.push_back(w.id);
  CONCORD_CHECK(add_own_lists(bundle, own, trust));
  return trust;
}

}  // namespace concord::conformance
