// What the shared kernels promise beyond right numbers: the digest of a weight is the host's, and the order of a sum
// depends neither on the width of warps nor on the number of tokens.
#include <dlfcn.h>
#include <fmt/format.h>

#include "abi/testing/bench.hpp"
#include "digest/weight_tree.hpp"

namespace concord::testing {
namespace {

// The forms of every device's tests, and int4 in groups that fill no chunk of a row, or more than one slab.
std::vector<WeightForm> all_forms() {
  std::vector<WeightForm> forms = kWeightForms;
  forms.insert(forms.end(), {{"U4/7", CONCORD_U4, 7, false},
                             {"U4/20 zeros", CONCORD_U4, 20, true},
                             {"U4/96 zeros", CONCORD_U4, 96, true},
                             {"U4/4096", CONCORD_U4, 4096, false}});
  return forms;
}

// The device under test by its plug-in's own table: weight_digest() is asked for as a vendor's host would.
class Raw {
 public:
  Raw() {
    void* library = ::dlopen(subject().facts().plugin.c_str(), RTLD_NOW | RTLD_LOCAL);
    const auto entry = reinterpret_cast<concord_backend_entry_fn>(::dlsym(library, "concord_backend_entry"));
    concord_error err{sizeof(concord_error), 0, {}};
    table_ = entry(CONCORD_ABI_MAJOR, CONCORD_ABI_MINOR, &err);
    for (std::uint32_t i = 0; i < table_->device_count(); ++i) {
      concord_device_info info{};
      info.struct_size = sizeof info;
      const concord_open_options options{sizeof(concord_open_options), 0};
      if (table_->device_info(i, &info, &err) != CONCORD_OK || subject().facts().id != info.id) continue;
      EXPECT_EQ(table_->device_open(i, &options, &device_, &err), CONCORD_OK) << err.message;
    }
  }
  ~Raw() { table_->device_close(device_); }

  std::string digest(const concord_weight_desc& desc) {
    concord_error err{sizeof(concord_error), 0, {}};
    concord_weight* weight = nullptr;
    Sha256 digest{};
    EXPECT_EQ(table_->weight_create(device_, &desc, &weight, &err), CONCORD_OK) << err.message;
    EXPECT_EQ(table_->weight_digest(device_, weight, reinterpret_cast<std::uint8_t*>(digest.data()), &err), CONCORD_OK)
        << err.message;
    table_->weight_destroy(device_, weight);
    return hex(digest);
  }

 private:
  const concord_backend* table_ = nullptr;
  concord_device* device_ = nullptr;
};

std::string host_digest(const HostWeight& w) {
  return hex(weight_tree_digest({w.desc.dtype, static_cast<std::uint64_t>(w.desc.rows),
                                 static_cast<std::uint64_t>(w.desc.cols), w.desc.group, w.data, w.scales,
                                 std::as_bytes(std::span(w.zeros))}));
}

TEST(WeightDigest, IsTheHostsForEveryFormAndPadding) {
  Raw device;
  // One byte; rows with padding and without; a whole block; more blocks than fit into a second level of one block
  // (F32).
  const std::pair<std::int64_t, std::int64_t> shapes[] = {{1, 1},    {3, 5},    {7, 1001}, {16, 64},
                                                          {32, 128}, {65, 260}, {200, 700}};
  for (const WeightForm& form : all_forms())
    for (const auto& [rows, cols] : shapes) {
      const HostWeight w = make_weight(form, rows, cols, activation_dtypes().front(), 3);
      EXPECT_EQ(device.digest(w.desc), host_digest(w)) << form.name << " " << rows << " x " << cols;
    }
}

TEST(WeightDigest, SeesOneBitAnywhere) {
  Raw device;
  HostWeight w = make_weight(kWeightForms.back(), 40, 300, activation_dtypes().front(), 3);
  const std::string before = device.digest(w.desc);
  for (const std::size_t at : {std::size_t{0}, std::size_t{4095}, std::size_t{4096}, w.data.size() - 1}) {
    w.data[at] ^= std::byte{1};
    EXPECT_NE(device.digest(w.desc), before) << at;
    w.data[at] ^= std::byte{1};
  }
  w.scales.back() ^= std::byte{1};
  EXPECT_NE(device.digest(w.desc), before);
}

std::vector<std::byte> product(Device& device, const HostWeight& w, DType act, const Values& x, std::int64_t tokens) {
  Bench b(device);
  concord_call c = make_call(CONCORD_OP_MATMUL);
  c.n_in = c.n_out = 1, c.weight = b.weight(w.desc);
  c.in[0] = b.put(act, {tokens, w.desc.cols}, Values(x.begin(), x.begin() + tokens * w.desc.cols)),
  c.out[0] = b.room(act, {tokens, w.desc.rows});
  const Status s = b.run(c);
  EXPECT_TRUE(s.has_value()) << s.error().to_string();
  return b.bits(c.out[0]);
}

// The first token of `bits`.
std::vector<std::byte> first_row(const std::vector<std::byte>& bits, std::int64_t tokens) {
  return {bits.begin(), bits.begin() + static_cast<std::ptrdiff_t>(bits.size()) / tokens};
}

TEST(Matmul, TheOrderOfASumDoesNotDependOnTheWarpsNorOnTheTokensBesideIt) {
  const std::string& id = subject().facts().id;
  const bool tiles = id.starts_with("gpu:tiles");
  const std::string other_id = id.ends_with("64") ? id.substr(0, id.size() - 2) : id + "64";
  auto other = backends().open(other_id);
  ASSERT_TRUE(other) << other.error().to_string();
  constexpr std::int64_t kRows = 70, kCols = 2100, kTokens = 70;
  const Values x = noise(5, kTokens * kCols);
  for (const DType act : activation_dtypes())
    for (const WeightForm& form : all_forms()) {
      const HostWeight w = make_weight(form, kRows, kCols, act, 6);
      std::map<std::int64_t, std::vector<std::byte>> bits;
      for (const std::int64_t tokens : {1, 3, 8, 9, 70}) {
        bits[tokens] = product(subject(), w, act, x, tokens);
        if (tokens <= 8 || !tiles) {
          EXPECT_EQ(bits[tokens], product(*other, w, act, x, tokens)) << form.name << " " << tokens;
        }
      }
      EXPECT_EQ(bits[1], first_row(bits[3], 3)) << form.name;
      EXPECT_EQ(bits[1], first_row(bits[8], 8)) << form.name;
      if (!tiles) {
        EXPECT_EQ(first_row(bits[9], 9), first_row(bits[70], 70)) << form.name;
      }
    }
}

// Rows whose last 16 bytes hold more than the row: whatever stands there must not come into a sum; nor may rows of x
// that begin anywhere.
TEST(Matmul, OddExtentsOfEveryForm) {
  for (const DType act : activation_dtypes())
    for (const WeightForm& form : all_forms())
      for (const std::int64_t cols : {1, 3, 17, 33, 63, 131, 2100})  // the last is divided among blocks
        for (const std::int64_t tokens : {1, 5, 9, 66}) {
          const HostWeight w = make_weight(form, 5, cols, act, 7, true);
          const Values x = integers(8, tokens * cols, 3);
          Bench b(subject());
          concord_call c = make_call(CONCORD_OP_MATMUL);
          c.n_in = c.n_out = 1, c.weight = b.weight(w.desc);
          c.in[0] = b.put(act, {tokens, cols}, x), c.out[0] = b.room(act, {tokens, 5});
          ASSERT_TRUE(b.run(c).has_value());
          Values want(static_cast<std::size_t>(tokens) * 5, 0.0);
          for (std::int64_t t = 0; t < tokens; ++t)
            for (std::int64_t r = 0; r < 5; ++r)
              for (std::int64_t k = 0; k < cols; ++k) want[t * 5 + r] += x[t * cols + k] * w.values[r * cols + k];
          expect_equal(b.get(c.out[0]), rounded(act, want), fmt::format("{} {} x {}", form.name, tokens, cols));
        }
}

}  // namespace
}  // namespace concord::testing
