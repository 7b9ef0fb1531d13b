// `concord doctor`: what this machine has, what Concord found on it, and what is missing for what was asked.
#include <fmt/format.h>
#include <openssl/crypto.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <set>
#include <sstream>
#include <thread>

#include "base/json.hpp"
#include "base/text.hpp"
#include "checkpoint/checkpoint.hpp"
#include "cli/command.hpp"
#include "device/device.hpp"

namespace concord::cli {
namespace {

namespace fs = std::filesystem;
constexpr double kGiB = 1024.0 * 1024.0 * 1024.0;

struct Options {
  bool json = false;
  std::vector<std::string> required;
  std::string model, results = "results";
};

// The value of "name : value" in a file of /proc, or empty.
std::string proc_value(const char* file, std::string_view name) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    const std::size_t colon = line.find(':');
    if (colon == std::string::npos ||
        std::string_view(line).substr(0, line.find_last_not_of(" \t:", colon) + 1) != name)
      continue;
    const std::size_t begin = line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return "";
}
std::uint64_t proc_kib(std::string_view name) {  // "MemTotal: 123 kB" in bytes
  std::uint64_t kib = 0;
  std::istringstream(proc_value("/proc/meminfo", name)) >> kib;
  return kib * 1024;
}

// The instruction sets that matter to arithmetic and hashing, in the words of /proc/cpuinfo.
std::vector<std::string> processor_features() {
  static const std::set<std::string> kKnown = {
      "sse4_2",   "avx",      "f16c",        "fma",         "avx2",        "avx_vnni", "avx512f",  "avx512dq",
      "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "amx_int8",
      "sha_ni",   "asimd",    "asimdhp",     "bf16",        "sve",         "sve2"};
  std::string flags = proc_value("/proc/cpuinfo", "flags");
  if (flags.empty()) flags = proc_value("/proc/cpuinfo", "Features");
  std::vector<std::string> found;
  std::istringstream words(flags);
  for (std::string word; words >> word;)
    if (kKnown.contains(word)) found.push_back(word);
  return found;
}

// Free bytes where the results will be written: the folder, or its nearest parent that exists.
std::pair<std::string, std::uint64_t> disk_free(const std::string& results) {
  std::error_code ec;
  fs::path folder = fs::absolute(results, ec);
  while (!folder.empty() && !fs::exists(folder, ec) && folder != folder.parent_path()) folder = folder.parent_path();
  const fs::space_info space = fs::space(folder, ec);
  return {folder.string(), ec ? 0 : space.available};
}

std::string build_flags() {
  std::string s = "C++23";
#if defined(__OPTIMIZE__)
  s += ", optimised";
#else
  s += ", not optimised";
#endif
#if defined(NDEBUG)
  s += ", NDEBUG";
#endif
#if defined(__FAST_MATH__)
  s += ", FAST MATH (results are not trustworthy)";
#else
  s += ", no fast-math";
#endif
#if defined(__SANITIZE_ADDRESS__)
  s += ", address sanitizer";
#endif
#if defined(__SANITIZE_THREAD__)
  s += ", thread sanitizer";
#endif
  return s;
}

// What would make a missing backend available.
std::string remedy(const std::string& id) {
  const std::string backend = id.substr(0, id.find(':'));
  const std::string place = fmt::format(
      "put libconcord_backend_{}.so beside the program, into ../lib/concord, or into a folder named by "
      "CONCORD_BACKEND_PATH",
      printable(backend));
  if (backend == "cuda")
    return "build with cmake --preset cuda where the CUDA toolkit is installed (needs an NVIDIA driver to run), or " +
           place;
  if (backend == "hip")
    return "build with cmake --preset hip where ROCm's HIP is installed (needs an AMD driver to run), or " + place;
  return place;
}

struct Missing {
  std::string id, reason, remedy;
};

std::vector<Missing> missing_of(const Backends& backends, const std::vector<std::string>& required) {
  std::vector<Missing> missing;
  for (const std::string& id : required) {
    const auto found = backends.resolve(id);
    if (found) continue;
    const bool there = found.error().code == "device.unavailable";
    missing.push_back({id, found.error().message,
                       there ? "another processor, driver or environment, as the reason says" : remedy(id)});
  }
  return missing;
}

OrderedJson device_json(const DeviceFacts& d) {
  OrderedJson j = {{"id", d.id}, {"backend", d.backend}, {"available", d.available}};
  if (!d.available) j["why"] = d.why;
  j.update(OrderedJson{{"name", d.name},
                       {"vendor", d.vendor},
                       {"architecture", d.architecture},
                       {"driver", d.driver},
                       {"libraries", d.libraries},
                       {"features", d.features},
                       {"compute_units", d.compute_units},
                       {"memory_bytes", d.memory_bytes},
                       {"plugin", d.plugin},
                       {"build", d.build}});
  return j;
}

OrderedJson machine_json(const Options& options) {
  const auto [folder, free] = disk_free(options.results);
  return {{"processor", proc_value("/proc/cpuinfo", "model name")},
          {"features", processor_features()},
          {"cores", std::thread::hardware_concurrency()},
          {"memory_bytes", proc_kib("MemTotal")},
          {"memory_available_bytes", proc_kib("MemAvailable")},
          {"results_folder", folder},
          {"disk_free_bytes", free},
          {"disk_writable", access(folder.c_str(), W_OK) == 0}};
}

std::string compiler_name() {
#if defined(__clang__)
  return __VERSION__;  // names itself
#else
  return "GCC " __VERSION__;
#endif
}

// Variables that change what is found or how it runs; an empty value is one that is not set.
OrderedJson environment_json() {
  OrderedJson j = OrderedJson::object();
  for (const char* name : {"CONCORD_BACKEND_PATH", "CONCORD_CPU_MASK", "ONEDNN_MAX_CPU_ISA", "OMP_NUM_THREADS",
                           "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"})
    if (const char* value = std::getenv(name); value && *value) j[name] = printable(value);
  return j;
}

OrderedJson software_json() {
  return {{"compiler", compiler_name()},
          {"build", build_flags()},
          {"openssl", OpenSSL_version(OPENSSL_VERSION)},
          {"fmt", FMT_VERSION}};
}

Result<OrderedJson> model_json(const std::string& path) {
  CONCORD_TRY(const auto checkpoint, Checkpoint::open(path));
  std::uint64_t bytes = 0, unreadable = 0;
  std::string types;
  for (const TensorInfo& t : checkpoint->tensors()) {
    bytes += t.bytes, unreadable += !t.decodable;
    if (!t.decodable && types.find(t.type) == std::string::npos) types += (types.empty() ? "" : ", ") + t.type;
  }
  OrderedJson j = {
      {"path", path}, {"format", checkpoint->format()}, {"tensors", checkpoint->tensors().size()}, {"bytes", bytes}};
  if (unreadable) j["not_decodable"] = fmt::format("{} tensors of type {}", unreadable, types);
  return j;
}

OrderedJson report_of(const Options& options, const Backends& backends, const std::vector<Missing>& missing) {
  OrderedJson j = {{"schema", "concord.doctor/1"},
                   {"machine", machine_json(options)},
                   {"software", software_json()},
                   {"environment", environment_json()}};
  j["devices"] = OrderedJson::array(), j["plugin_failures"] = OrderedJson::array(), j["missing"] = OrderedJson::array();
  for (const DeviceFacts& d : backends.devices()) j["devices"].push_back(device_json(d));
  for (const PluginFailure& f : backends.failures()) j["plugin_failures"].push_back({{"path", f.path}, {"why", f.why}});
  for (const Missing& m : missing) j["missing"].push_back({{"id", m.id}, {"reason", m.reason}, {"remedy", m.remedy}});
  return j;
}

void print_machine(const OrderedJson& report) {
  const OrderedJson &m = report["machine"], &software = report["software"];
  std::string features;
  for (const auto& f : m["features"]) features += (features.empty() ? "" : " ") + f.get<std::string>();
  const auto gib = [&](const char* key) { return static_cast<double>(m[key].get<std::uint64_t>()) / kGiB; };
  fmt::print("processor   {}\n", m["processor"].get<std::string>());
  fmt::print("            {}\n", features);
  fmt::print("cores       {}\n", m["cores"].get<unsigned>());
  fmt::print("memory      {:.1f} GiB, {:.1f} GiB available\n", gib("memory_bytes"), gib("memory_available_bytes"));
  fmt::print("disk        {:.1f} GiB free in {}{}\n", gib("disk_free_bytes"), m["results_folder"].get<std::string>(),
             m["disk_writable"].get<bool>() ? "" : " (NOT WRITABLE)");
  fmt::print("compiler    {}; {}\n", software["compiler"].get<std::string>(), software["build"].get<std::string>());
  fmt::print("libraries   {}\n", software["openssl"].get<std::string>());
  for (const auto& [name, value] : report["environment"].items())
    fmt::print("environment {}={}\n", name, value.get<std::string>());
}

void print_devices(const Backends& backends) {
  fmt::print("devices\n");
  for (const DeviceFacts& d : backends.devices()) {
    if (!d.available) continue;
    fmt::print("  {:<17}{}; {}; {} compute units, {:.1f} GiB\n", d.id, d.name, d.libraries, d.compute_units,
               static_cast<double>(d.memory_bytes) / kGiB);
  }
  for (const DeviceFacts& d : backends.devices())
    if (!d.available) fmt::print("  {:<17}NOT AVAILABLE: {}\n", d.id, d.why);
  for (const PluginFailure& f : backends.failures()) fmt::print("  PLUG-IN FAILED {}: {}\n", f.path, f.why);
  if (backends.devices().empty()) fmt::print("  none found: {}\n", remedy("NAME"));
}

void print_model(const OrderedJson& m) {
  fmt::print("model       {}: {}, {} tensors, {:.2f} GiB\n", m["path"].get<std::string>(),
             m["format"].get<std::string>(), m["tensors"].get<std::size_t>(),
             static_cast<double>(m["bytes"].get<std::uint64_t>()) / kGiB);
  if (m.contains("not_decodable"))
    fmt::print("            cannot be decoded: {}\n", m["not_decodable"].get<std::string>());
}

void run_doctor(const Options& options, Context& context) {
  const Backends backends = Backends::discover();
  const std::vector<Missing> missing = missing_of(backends, options.required);
  OrderedJson report = report_of(options, backends, missing);
  if (!options.model.empty()) {
    auto model = model_json(options.model);
    if (model)
      report["model"] = *model;
    else
      report["model"] = {{"path", options.model}, {"error", model.error().code}}, context.fail(model.error());
  }
  if (options.json) {
    fmt::print("{}\n", report.dump(2, ' ', false, OrderedJson::error_handler_t::replace));
  } else {
    print_machine(report);
    print_devices(backends);
    if (report.contains("model") && !report["model"].contains("error")) print_model(report["model"]);
  }
  for (const Missing& m : missing)
    context.fail(
        Error{ErrorKind::kMissingDevice,
              "device.required",
              fmt::format("required backend {} is missing: {}. To get it: {}", printable(m.id), m.reason, m.remedy),
              {},
              {}});
}

}  // namespace

void add_doctor_command(CLI::App& root, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      root.add_subcommand("doctor", "Show the machine, libraries, backends and devices, and what is missing");
  command->add_flag("--json", options->json, "Print one JSON document");
  command
      ->add_option("--require-backends", options->required,
                   "Backends or devices that must be there (exit 3 otherwise): cuda,cpu:avx512")
      ->delimiter(',');
  command->add_option("--model", options->model, "A checkpoint to try: file or folder");
  command->add_option("--results", options->results, "Folder whose free space is reported")->capture_default_str();
  command->callback([options, &context] { run_doctor(*options, context); });
}

}  // namespace concord::cli
