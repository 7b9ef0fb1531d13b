// Several devices of a kind, as a plug-in for several GPUs offers them: each computes as the reference does. For tests
// of device ids and of runs that are spread over interchangeable devices.
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include "abi/concord_host.hpp"
#include "reference/reference.hpp"

namespace {

using concord_abi::refuse;

struct Twin {
  const char *id, *architecture, *features, *why;  // why: it is not available; empty where it is
};
constexpr Twin kTwins[] = {
    {"twin:0", "portable C++", "f64", ""},
    {"twin:0:portable", "portable C++", "f64", ""},
    {"twin:0:lost", "portable C++", "f64", "it is lost"},
    {"twin:1", "portable C++", "f64", ""},
    {"twin:1:portable", "portable C++", "f64", ""},
    {"twin:2", "another", "f64", ""},
    {"twin:3", "portable C++", "f64,more", ""},
    {"twin:4", "portable C++", "f64", "it fell off the bus"},
};
constexpr std::uint32_t kCount = sizeof kTwins / sizeof *kTwins;

std::uint32_t device_count() { return kCount; }

concord_status device_info(std::uint32_t index, concord_device_info* info, concord_error* err) {
  if (index >= kCount || !info) return refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "twin: no device %u", index);
  const Twin& twin = kTwins[index];
  concord_device_info f{};
  f.available = !*twin.why;
  concord_abi::set_text(f.id, twin.id);
  concord_abi::set_text(f.name, "one of several"), concord_abi::set_text(f.vendor, "Concord");
  concord_abi::set_text(f.architecture, twin.architecture), concord_abi::set_text(f.features, twin.features);
  concord_abi::set_text(f.why, twin.why);
  f.compute_units = 1, f.memory_bytes = concord_abi::physical_memory();
  concord_abi::give(f, info);
  return CONCORD_OK;
}

std::uint32_t opened = 0;  // a worker has one device

// CONCORD_TEST_TWINS_MEET=FOLDER: the first call leaves a file there and waits until there are two; for a minute, or
// CONCORD_TEST_TWINS_PATIENCE seconds.
bool met(const char* folder) {
  namespace fs = std::filesystem;
  std::ofstream(fs::path(folder) / std::to_string(opened)) << "here";
  const auto here = [&] { return std::distance(fs::directory_iterator(folder), fs::directory_iterator()); };
  const char* patience = std::getenv("CONCORD_TEST_TWINS_PATIENCE");
  const int steps = 200 * (patience ? std::atoi(patience) : 60);
  for (int i = 0; i < steps && here() < 2; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  return here() >= 2;
}

// CONCORD_TEST_TWINS_SLEEP: microseconds that each call takes longer, without using the processor, as it is where a GPU
// computes.
concord_status run(concord_device* device, concord_stream* stream, const concord_call* call, concord_witness* witness,
                   concord_error* err) {
  static const char* folder = std::getenv("CONCORD_TEST_TWINS_MEET");
  static const bool in_company = !folder || met(folder);
  if (!in_company) return refuse(err, CONCORD_DEVICE_ERROR, CONCORD_WHY_NONE, "the other twin did not come");
  static const char* sleep = std::getenv("CONCORD_TEST_TWINS_SLEEP");
  if (sleep) std::this_thread::sleep_for(std::chrono::microseconds(std::atoi(sleep)));
  return reference::table().run(device, stream, call, witness, err);
}

// One thread each, so that two of them side by side on two processors are seen to be faster than one.
concord_status device_open(std::uint32_t index, const concord_open_options*, concord_device** device,
                           concord_error* err) {
  if (index >= kCount || *kTwins[index].why)
    return refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "twin: no device %u to open", index);
  opened = index;
  const concord_open_options one_thread{sizeof one_thread, 1};
  return reference::table().device_open(0, &one_thread, device, err);
}

const concord_backend& table() {
  static const concord_backend twins = [] {
    concord_backend t = reference::table();
    t.name = "twin", t.device_count = device_count, t.device_info = device_info, t.device_open = device_open,
    t.run = run;
    return t;
  }();
  return twins;
}

}  // namespace

extern "C" __attribute__((visibility("default"))) const concord_backend* concord_backend_entry(std::uint32_t major,
                                                                                               std::uint32_t,
                                                                                               concord_error* err) {
  if (major == CONCORD_ABI_MAJOR) return &table();
  refuse(err, CONCORD_INVALID, CONCORD_WHY_NONE, "twin serves ABI %u", CONCORD_ABI_MAJOR);
  return nullptr;
}
