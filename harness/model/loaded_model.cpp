#include "model/loaded_model.hpp"

#include <fmt/format.h>
#include <tbb/parallel_for.h>
#include <tbb/parallel_invoke.h>
#include <tbb/task_group.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <utility>

#include "digest/weight_tree.hpp"

namespace concord {
namespace {

// One tensor on its way from the file to the device.
struct Prepared {
  const ExpectedTensor* expected = nullptr;
  const TensorInfo* stored = nullptr;
  QuantizedMatrix matrix;            // matrices; without data where the file's own bytes serve
  std::span<const std::byte> bytes;  // of a matrix: its data, wherever they lie
  std::vector<float> vector;         // gains and biases
  Sha256 digest{}, source_digest{}, tree_digest{};  // tree_digest: of a matrix, where the device offers its own
};

// Matrices that the device has copied, kept for their memory: to get fresh pages from the system costs about as much as
// to convert into them. Only one that fits without much waste is given out, so that the pool stays as large as what is
// in flight.
class Storage {
 public:
  explicit Storage(std::uint64_t largest) : largest_(largest) {}
  QuantizedMatrix take(std::uint64_t bytes) {
    const std::lock_guard lock(mutex_);
    const auto it = free_.lower_bound(bytes);
    if (it == free_.end() || it->first > 2 * bytes) return {};
    return std::move(free_.extract(it).mapped());
  }
  void give(QuantizedMatrix m) {
    const std::lock_guard lock(mutex_);
    if (const std::uint64_t bytes = m.data.size(); bytes > 0 && bytes <= largest_) free_.emplace(bytes, std::move(m));
  }

 private:
  std::uint64_t largest_;
  std::mutex mutex_;
  std::multimap<std::uint64_t, QuantizedMatrix> free_;  // by bytes of data
};

// A large tensor's pages in the file are given back while it is read, so that it is not in memory twice. Whoever still
// reads it takes them from the page cache again.
constexpr std::size_t kReleaseBytes = std::size_t{32} << 20;
constexpr std::uint64_t kReleaseElements = std::uint64_t{8} << 20;

bool is_unquantized(const std::string& name) { return name == "model.embed_tokens.weight" || name == "lm_head.weight"; }

WeightPrecision precision_of(const ExpectedTensor& t, const RunPrecision& precision) {
  return is_unquantized(t.name) ? precision.unquantized() : precision.weights;
}

// What a tensor's elements take in memory, without scales.
std::uint64_t data_bytes(const ExpectedTensor& t, const WeightPrecision& kind) {
  using Kind = WeightPrecision::Kind;
  const auto elements = static_cast<std::uint64_t>(element_count(t.shape));
  if (!t.matrix || kind.kind == Kind::kF32) return elements * 4;
  if (kind.kind == Kind::kInt4) return static_cast<std::uint64_t>(t.shape[0] * ((t.shape[1] + 1) / 2));
  return kind.kind == Kind::kInt8 ? elements : elements * 2;
}

// The stored bytes of a matrix that runs in the type it is stored in, row by row: nothing to convert. Empty otherwise.
std::span<const std::byte> usable_as_stored(const HfMatrix& m, const WeightPrecision& kind) {
  using Kind = WeightPrecision::Kind;
  constexpr std::pair<Kind, DType> kFloats[] = {
      {Kind::kF32, DType::kF32}, {Kind::kF16, DType::kF16}, {Kind::kBF16, DType::kBF16}};
  const auto it = std::ranges::find(kFloats, kind.kind, &std::pair<Kind, DType>::first);
  if (it == std::end(kFloats) || m.info().type != dtype_name(it->second)) return {};
  const std::span<const std::byte> bytes = m.stored_in_order();
  const bool aligned = reinterpret_cast<std::uintptr_t>(bytes.data()) % (dtype_bits(it->second) / 8) == 0;
  return aligned && all_finite(it->second, bytes) ? bytes : std::span<const std::byte>{};
}

Status prepare_vector(const HfTensors& tensors, Prepared& p) {
  CONCORD_TRY(p.vector, tensors.read(p.expected->name, p.expected->shape));
  p.digest =
      framed_tensor_digest(p.expected->name, "F32", p.expected->shape, std::as_bytes(std::span<const float>(p.vector)));
  return {};
}

Status prepare_matrix(const Checkpoint& checkpoint, const HfTensors& tensors, const WeightPrecision& kind, Storage& storage,
                      Prepared& p) {
  const ExpectedTensor& t = *p.expected;
  CONCORD_TRY(const HfMatrix m, tensors.matrix(t.name, t.shape));
  p.bytes = usable_as_stored(m, kind);
  if (p.bytes.empty()) {
    std::atomic<std::uint64_t> elements = 0;
    const auto rows = [&](std::int64_t begin, std::int64_t end, float* out) -> Status {
      CONCORD_CHECK(m.read_rows(begin, end, out));
      const auto count = static_cast<std::uint64_t>((end - begin) * t.shape[1]), before = elements.fetch_add(count);
      if (before / kReleaseElements != (before + count) / kReleaseElements) checkpoint.release(m.info());
      return {};
    };
    CONCORD_TRY(p.matrix, quantize(rows, t.shape[0], t.shape[1], kind, storage.take(data_bytes(t, kind))));
    p.bytes = p.matrix.data;
  } else {
    p.matrix = {.precision = kind, .rows = t.shape[0], .cols = t.shape[1], .data = {}, .scales = {}, .zeros = {}};
  }
  const std::span<const std::byte> pieces[] = {p.bytes, p.matrix.scales,
                                               std::as_bytes(std::span<const std::uint8_t>(p.matrix.zeros))};
  p.digest = framed_pieces_digest(t.name, kind.name(), t.shape, pieces);
  return {};
}

std::uint64_t running_bytes(const Prepared& p) {
  return p.bytes.size() + p.matrix.scales.size() + p.matrix.zeros.size() + p.vector.size() * sizeof(float);
}

Sha256 stored_digest(const Checkpoint& checkpoint, const TensorInfo& t) {
  std::vector<std::span<const std::byte>> pieces;
  const std::span<const std::byte> all = checkpoint.raw(t);
  for (std::size_t at = 0; at < all.size(); at += kReleaseBytes) pieces.push_back(all.subspan(at, std::min(kReleaseBytes, all.size() - at)));
  return framed_pieces_digest(t.name, t.type, t.shape, pieces, [&] {
    if (pieces.size() > 1) checkpoint.release(t);
  });
}

// Where each tensor goes.
struct Slots {
  std::map<std::string, Weight*> weights;
  std::map<std::string, Buffer*> vectors;
};

Slots make_slots(std::vector<LayerWeights>& layers, Weight& embedding, Weight& lm_head, Buffer& final_norm) {
  Slots slots;
  slots.weights = {{"model.embed_tokens.weight", &embedding}, {"lm_head.weight", &lm_head}};
  slots.vectors = {{"model.norm.weight", &final_norm}};
  for (std::size_t i = 0; i < layers.size(); ++i) {
    LayerWeights& l = layers[i];
    const auto at = [i](const char* name) { return fmt::format("model.layers.{}.{}", i, name); };
    const std::pair<const char*, std::pair<Weight*, Buffer*>> linear[] = {
        {"self_attn.q_proj", {&l.q, &l.q_bias}},    {"self_attn.k_proj", {&l.k, &l.k_bias}},
        {"self_attn.v_proj", {&l.v, &l.v_bias}},    {"self_attn.o_proj", {&l.o, &l.o_bias}},
        {"mlp.gate_proj", {&l.gate, &l.gate_bias}}, {"mlp.up_proj", {&l.up, &l.up_bias}},
        {"mlp.down_proj", {&l.down, &l.down_bias}}};
    for (const auto& [name, target] : linear) {
      slots.weights[at(name) + ".weight"] = target.first;
      slots.vectors[at(name) + ".bias"] = target.second;
    }
    slots.vectors[at("input_layernorm.weight")] = &l.input_norm;
    slots.vectors[at("post_attention_layernorm.weight")] = &l.post_norm;
    slots.vectors[at("self_attn.q_norm.weight")] = &l.q_norm;
    slots.vectors[at("self_attn.k_norm.weight")] = &l.k_norm;
  }
  return slots;
}

// What a device's own digest must be.
Sha256 tree_digest_of(const Prepared& p) {
  const concord_weight_desc desc = p.matrix.desc(CONCORD_F32);
  return weight_tree_digest({.dtype = desc.dtype,
                             .rows = static_cast<std::uint64_t>(desc.rows),
                             .cols = static_cast<std::uint64_t>(desc.cols),
                             .group = desc.group,
                             .data = p.bytes,
                             .scales = p.matrix.scales,
                             .zeros = std::as_bytes(std::span<const std::uint8_t>(p.matrix.zeros))});
}

Status place(Device& device, Prepared& p, DType activations, Slots& slots, GivenWeights& given) {
  const std::string& name = p.expected->name;
  if (p.expected->matrix) {
    const auto slot = slots.weights.find(name);
    if (slot == slots.weights.end()) return fail(ErrorKind::kInternal, "model.no_slot", "no place for matrix " + name);
    concord_weight_desc desc = p.matrix.desc(to_abi(activations));
    desc.data = p.bytes.data();
    CONCORD_TRY(*slot->second, device.create_weight(desc));
    given.matrix(name, *slot->second, p.tree_digest);
    return {};
  }
  const auto slot = slots.vectors.find(name);
  if (slot == slots.vectors.end()) return fail(ErrorKind::kInternal, "model.no_slot", "no place for vector " + name);
  const auto bytes = std::as_bytes(std::span<const float>(p.vector));
  CONCORD_TRY(*slot->second, device.allocate(bytes.size()));
  CONCORD_CHECK(device.upload(*slot->second, 0, bytes));
  given.vector(name, *slot->second, p.vector);
  return {};
}

using Batch = std::vector<const ExpectedTensor*>;

// The order of loading: in batches of a thirty-second of the model, or of `at_least` where that is more, so that every
// core has a tensor to hash. What is larger than a batch comes first, while little else is in memory, each with a batch
// of others beside it, because hashing it keeps one core busy alone.
std::uint64_t batch_limit(const std::vector<ExpectedTensor>& expected, const RunPrecision& precision,
                          std::uint64_t at_least) {
  std::uint64_t total = 0;
  for (const ExpectedTensor& t : expected) total += data_bytes(t, precision_of(t, precision));
  return std::max(at_least, total / 32);
}

std::vector<Batch> make_batches(const std::vector<ExpectedTensor>& expected, const RunPrecision& precision,
                                std::uint64_t limit) {
  const auto bytes = [&](const ExpectedTensor& t) { return data_bytes(t, precision_of(t, precision)); };
  std::vector<const ExpectedTensor*> order;
  for (const bool large : {true, false})
    for (const ExpectedTensor& t : expected)
      if ((bytes(t) > limit) == large) order.push_back(&t);
  std::vector<Batch> batches;
  std::uint64_t beside = 0;  // bytes of the batch, without its first tensor
  for (const ExpectedTensor* t : order) {
    if (batches.empty() || bytes(*t) > limit - beside) {
      batches.emplace_back();
      beside = 0;
    } else {
      beside += bytes(*t);
    }
    batches.back().push_back(t);
  }
  return batches;
}

// A batch side by side. The first error in order wins, so that a message does not depend on timing.
Result<std::vector<Prepared>> prepare(const Batch& batch, const Checkpoint& checkpoint, const HfTensors& tensors,
                                      const RunPrecision& precision, Storage& storage, bool tree_digests) {
  std::vector<Prepared> out(batch.size());
  std::vector<Status> status(batch.size());
  tbb::parallel_for(std::size_t{0}, batch.size(), [&](std::size_t i) {
    Prepared& p = out[i];
    p.expected = batch[i];
    p.stored = tensors.info(p.expected->name);
    tbb::parallel_invoke(
        [&] {
          status[i] = p.expected->matrix ? prepare_matrix(checkpoint, tensors, precision_of(*p.expected, precision), storage, p)
                                         : prepare_vector(tensors, p);
          if (tree_digests && status[i] && p.expected->matrix) p.tree_digest = tree_digest_of(p);
        },
        [&] {
          if (p.stored) p.source_digest = stored_digest(checkpoint, *p.stored);
        });
  });
  for (const Status& s : status) CONCORD_CHECK(s);
  return out;
}

// Stored digests of the whole checkpoint: those that loading made on the way, and the rest.
std::string model_digest(const Checkpoint& checkpoint, const std::map<const TensorInfo*, Sha256>& known) {
  const auto& tensors = checkpoint.tensors();
  std::vector<NamedDigest> digests(tensors.size());
  tbb::parallel_for(std::size_t{0}, tensors.size(), [&](std::size_t i) {
    const TensorInfo& t = tensors[i];
    const auto found = known.find(&t);
    digests[i] = {t.name, found != known.end() ? found->second : stored_digest(checkpoint, t)};
    checkpoint.release(t);
  });
  return hex(framed_model_digest(std::move(digests)));
}

}  // namespace

Result<LoadedModel> LoadedModel::load(Device& device, const Checkpoint& checkpoint, const ModelSpec& spec,
                                      const RunPrecision& precision, const LoadProgress& progress) {
  LoadedModel model;
  model.spec_ = spec;
  model.precision_ = precision;
  model.layers_.resize(static_cast<std::size_t>(spec.layers));
  Slots slots = make_slots(model.layers_, model.embedding_, model.lm_head_, model.final_norm_);
  const HfTensors tensors(checkpoint, spec.heads, spec.kv_heads);
  const std::vector<ExpectedTensor> expected = expected_tensors(spec);
  const std::uint64_t limit = batch_limit(expected, precision, progress.batch_bytes);
  const std::vector<Batch> batches = make_batches(expected, precision, limit);
  Storage storage(limit);
  const bool digests_offered = device.has_weight_digest();
  GivenWeights given;
  std::vector<NamedDigest> digests;
  std::map<const TensorInfo*, Sha256> source_digests;
  Result<std::vector<Prepared>> next = prepare(batches[0], checkpoint, tensors, precision, storage, digests_offered);
  for (std::size_t i = 0; i < batches.size(); ++i) {
    CONCORD_TRY(std::vector<Prepared> batch, std::exchange(next, std::vector<Prepared>{}));
    tbb::task_group ahead;  // the next batch is prepared while this thread, and no other, talks to the device
    if (i + 1 < batches.size())
      ahead.run([&] { next = prepare(batches[i + 1], checkpoint, tensors, precision, storage, digests_offered); });
    Status placed;
    for (Prepared& p : batch) {
      if (placed = place(device, p, precision.activations, slots, given); !placed) break;
      digests.push_back({p.expected->name, p.digest});
      source_digests[p.stored] = p.source_digest;
      model.weight_bytes_ += running_bytes(p);
      checkpoint.release(*p.stored);
      storage.give(std::move(p.matrix));
    }
    ahead.wait();
    CONCORD_CHECK(placed);
    if (progress.step) progress.step(digests.size(), expected.size());
  }
  CONCORD_TRY(model.device_check_, given.check(device));
  model.weights_digest_ = hex(framed_model_digest(std::move(digests)));
  model.source_digest_ = model_digest(checkpoint, source_digests);
  return model;
}

std::string source_digest(const Checkpoint& checkpoint) { return model_digest(checkpoint, {}); }

}  // namespace concord
