// How fast compare() is beside a plain read of the same mapped bytes. Not run by CTest: a figure of one machine at one
// time, to be read as a ratio.
//   concord_compare_bench [MiB per capture, 256] [hidden, 2048]
#include <fmt/format.h>
#include <sys/resource.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <vector>

#include "base/rng.hpp"
#include "compare/compare.hpp"

namespace concord {
namespace {

constexpr int kRounds = 7;

enum class Data { kEqual, kRelative, kAbsolute, kUnrelated };
constexpr struct {
  Data data;
  const char* name;
} kData[]{{Data::kEqual, "equal"},
          {Data::kRelative, "noise 1e-3 of each value"},
          {Data::kAbsolute, "noise 1e-3 of the scale"},
          {Data::kUnrelated, "unrelated"}};

// A sum of four uniform numbers is normal enough to time with.
double deviate(std::uint64_t& state) {
  double sum = 0;
  for (int i = 0; i < 4; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    sum += static_cast<double>(state >> 40) * 0x1p-24;
  }
  return (sum - 2) * 1.7320508075688772;
}

struct Files {
  std::filesystem::path a, b;
  ~Files() {
    std::error_code ignored;
    std::filesystem::remove(a, ignored);
    std::filesystem::remove(b, ignored);
  }
};

CaptureHeader header(DType dtype, std::int64_t hidden, std::size_t elements) {
  CaptureHeader h;
  h.workload_digest = h.weights_digest = h.source_digest = std::string(64, 'a');
  h.nonce = "00";
  h.role = "prover";
  h.configuration = h.provenance = OrderedJson::object();
  h.hidden = hidden;
  h.dtype = dtype;
  h.model_layers = 32;
  h.prompt_tokens = 1;
  h.layers = {8, 16, 24, 32};  // multiples of 8: the seed profile judges every element, too
  const auto positions = static_cast<std::int32_t>(elements / static_cast<std::size_t>(4 * hidden));
  for (std::int32_t i = 0; i < positions; ++i) h.positions.push_back(i);
  h.tokens.resize(static_cast<std::size_t>(positions) + 1);
  return h;
}

Status write(const Files& files, const CaptureHeader& h, Data data) {
  CONCORD_TRY(CaptureWriter a, CaptureWriter::create(files.a, h));
  CONCORD_TRY(CaptureWriter b, CaptureWriter::create(files.b, h));
  const auto hidden = static_cast<std::size_t>(h.hidden);
  std::vector<std::byte> rows[2];
  for (auto& r : rows) r.resize(hidden * dtype_bits(h.dtype) / 8);
  std::uint64_t state = 1;
  for (const std::int64_t layer : h.layers)
    for (std::size_t p = 0; p < h.positions.size(); ++p) {
      for (std::size_t i = 0; i < hidden; ++i) {
        const double x = deviate(state), z = deviate(state);
        const double y = data == Data::kEqual      ? x
                         : data == Data::kRelative ? x * (1 + 1e-3 * z)
                         : data == Data::kAbsolute ? x + 1e-3 * z
                                                   : z;
        store_from_f64(h.dtype, rows[0].data(), i, x);
        store_from_f64(h.dtype, rows[1].data(), i, y);
      }
      CONCORD_CHECK(a.put(layer, p, rows[0]));
      CONCORD_CHECK(b.put(layer, p, rows[1]));
    }
  CONCORD_TRY(const Sha256 root_a, a.finish(h.tokens, h.provenance));
  CONCORD_TRY(const Sha256 root_b, b.finish(h.tokens, h.provenance));
  (void)root_a, (void)root_b;
  return {};
}

double seconds(const auto& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}
double median(std::vector<double> v) {
  std::ranges::sort(v);
  return v[v.size() / 2];
}

std::uint64_t read_words(std::span<const std::byte> bytes) {
  std::uint64_t lanes[32]{};
  std::size_t i = 0;
  for (; i + sizeof lanes <= bytes.size(); i += sizeof lanes) {
    std::uint64_t words[32];
    std::memcpy(words, bytes.data() + i, sizeof words);
    for (int l = 0; l < 32; ++l) lanes[l] ^= words[l];
  }
  std::uint64_t sum = 0;
  for (std::uint64_t lane : lanes) sum ^= lane;
  return sum;
}

volatile std::uint64_t sink;

void read_both(const Capture& a, const Capture& b, int threads) {
  constexpr std::size_t kBlock = 1u << 18;
  tbb::task_arena arena(threads);
  arena.execute([&] {
    for (const std::int64_t layer : a.header().layers) {
      const auto x = a.states(layer), y = b.states(layer);
      tbb::parallel_for(std::size_t{0}, (x.size() + kBlock - 1) / kBlock, [&](std::size_t i) {
        const std::size_t n = std::min(kBlock, x.size() - i * kBlock);
        sink = read_words(x.subspan(i * kBlock, n)) ^ read_words(y.subspan(i * kBlock, n));
      });
    }
  });
}

// Resident memory that belongs to no file, in MiB.
double anonymous_mib() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("RssAnon:")) return std::stod(line.substr(8)) / 1024;
  return 0;
}

Status measure(DType dtype, Data data, const char* name, std::size_t mib, std::int64_t hidden) {
  const std::string stem =
      (std::filesystem::temp_directory_path() / fmt::format("concord_bench_{}", ::getpid())).string();
  const Files files{stem + "_a.safetensors", stem + "_b.safetensors"};
  CONCORD_CHECK(write(files, header(dtype, hidden, (mib << 20) * 8 / dtype_bits(dtype)), data));
  CONCORD_TRY(const Capture a, Capture::open(files.a));
  CONCORD_TRY(const Capture b, Capture::open(files.b));
  CONCORD_TRY(Profile paper, Profile::load("paper"));
  CONCORD_TRY(Profile seed, Profile::load("seed"));
  const std::vector<Profile> profiles{paper, seed};
  const double gigabytes = 2e-9 * static_cast<double>(a.states(8).size()) * 4;
  for (int threads : {1, 2}) {
    std::vector<double> compared, read, ratio;
    CompareContext context;
    context.threads = threads;
    read_both(a, b, threads);
    const double before = anonymous_mib();
    for (int i = 0; i < kRounds; ++i) {
      read.push_back(seconds([&] { read_both(a, b, threads); }));
      compared.push_back(seconds([&] { sink = compare(a, b, profiles, context).value().size(); }));
      ratio.push_back(read.back() / compared.back());
    }
    fmt::print(
        "{:<4} {:<26} {} threads: compare {:6.2f} GB/s, read {:6.2f} GB/s, median of the ratios {:.3f}, {:.1f} MiB "
        "more\n",
        dtype_name(dtype), name, threads, gigabytes / median(compared), gigabytes / median(read), median(ratio),
        anonymous_mib() - before);
  }
  return {};
}

}  // namespace
}  // namespace concord

int main(int argc, char** argv) {
  const std::size_t mib = argc > 1 ? std::stoul(argv[1]) : 256;
  const std::int64_t hidden = argc > 2 ? std::stol(argv[2]) : 2048;
  for (const concord::DType dtype : {concord::DType::kF32, concord::DType::kF16, concord::DType::kBF16})
    for (const auto& d : concord::kData)
      if (const auto done = concord::measure(dtype, d.data, d.name, mib, hidden); !done) {
        fmt::print(stderr, "{}\n", done.error().to_string());
        return 1;
      }
  return 0;
}
