#include "model/loaded_model.hpp"

#include <fmt/format.h>
#include <tbb/parallel_for.h>

#include <map>

namespace concord {
namespace {

// One tensor on its way from the file to the device.
struct Prepared {
  const ExpectedTensor* expected = nullptr;
  QuantizedMatrix matrix;     // matrices
  std::vector<float> vector;  // gains and biases
  Sha256 digest{};
  std::uint64_t bytes = 0;
};

bool is_unquantized(const std::string& name) { return name == "model.embed_tokens.weight" || name == "lm_head.weight"; }

Result<Prepared> prepare(const ExpectedTensor& expected, const HfTensors& tensors, const RunPrecision& precision) {
  Prepared out{.expected = &expected};
  CONCORD_TRY(std::vector<float> values, tensors.read(expected.name, expected.shape));
  if (!expected.matrix) {
    const auto bytes = std::as_bytes(std::span<const float>(values));
    out.digest = framed_tensor_digest(expected.name, "F32", expected.shape, bytes);
    out.bytes = bytes.size();
    out.vector = std::move(values);
    return out;
  }
  const WeightPrecision kind = is_unquantized(expected.name) ? precision.unquantized() : precision.weights;
  CONCORD_TRY(out.matrix, quantize(values, expected.shape[0], expected.shape[1], kind));
  std::vector<std::byte> all = out.matrix.data;
  all.insert(all.end(), out.matrix.scales.begin(), out.matrix.scales.end());
  const auto zeros = std::as_bytes(std::span<const std::uint8_t>(out.matrix.zeros));
  all.insert(all.end(), zeros.begin(), zeros.end());
  out.digest = framed_tensor_digest(expected.name, kind.name(), expected.shape, all);
  out.bytes = all.size();
  return out;
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
        {"self_attn.q_proj", {&l.q, &l.q_bias}}, {"self_attn.k_proj", {&l.k, &l.k_bias}},
        {"self_attn.v_proj", {&l.v, &l.v_bias}}, {"self_attn.o_proj", {&l.o, &l.o_bias}},
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

Status place(Device& device, const Prepared& p, DType activations, Slots& slots) {
  const std::string& name = p.expected->name;
  if (p.expected->matrix) {
    const auto slot = slots.weights.find(name);
    if (slot == slots.weights.end()) return fail(ErrorKind::kInternal, "model.no_slot", "no place for matrix " + name);
    CONCORD_TRY(*slot->second, device.create_weight(p.matrix.desc(to_abi(activations))));
    return {};
  }
  const auto slot = slots.vectors.find(name);
  if (slot == slots.vectors.end()) return fail(ErrorKind::kInternal, "model.no_slot", "no place for vector " + name);
  const auto bytes = std::as_bytes(std::span<const float>(p.vector));
  CONCORD_TRY(*slot->second, device.allocate(bytes.size()));
  return device.upload(*slot->second, 0, bytes);
}

// Prepares [begin, end) side by side. The first error in order wins, so that a message does not depend on timing.
Result<std::vector<Prepared>> prepare_batch(std::span<const ExpectedTensor> batch, const HfTensors& tensors,
                                            const RunPrecision& precision) {
  std::vector<Result<Prepared>> results(batch.size(), Prepared{});
  tbb::parallel_for(std::size_t{0}, batch.size(), [&](std::size_t i) { results[i] = prepare(batch[i], tensors, precision); });
  std::vector<Prepared> out;
  for (auto& r : results) {
    CONCORD_TRY(Prepared p, std::move(r));
    out.push_back(std::move(p));
  }
  return out;
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
  std::vector<NamedDigest> digests;
  constexpr std::size_t kBatch = 8;  // about one layer: enough to keep the cores busy, little enough to bound memory
  for (std::size_t i = 0; i < expected.size(); i += kBatch) {
    const auto batch = std::span(expected).subspan(i, std::min(kBatch, expected.size() - i));
    CONCORD_TRY(const std::vector<Prepared> prepared, prepare_batch(batch, tensors, precision));
    for (const Prepared& p : prepared) {
      CONCORD_CHECK(place(device, p, precision.activations, slots));
      digests.push_back({p.expected->name, p.digest});
      model.weight_bytes_ += p.bytes;
      if (spec.tied_embeddings && p.expected->name == "model.embed_tokens.weight") {
        CONCORD_TRY(model.lm_head_, device.create_weight(p.matrix.desc(to_abi(precision.activations))));
      }
    }
    if (progress.step) progress.step(std::min(i + kBatch, expected.size()), expected.size());
  }
  model.weights_digest_ = hex(framed_model_digest(std::move(digests)));
  return model;
}

std::string source_digest(const Checkpoint& checkpoint) {
  const auto& tensors = checkpoint.tensors();
  std::vector<NamedDigest> digests(tensors.size());
  tbb::parallel_for(std::size_t{0}, tensors.size(), [&](std::size_t i) {
    const TensorInfo& t = tensors[i];
    digests[i] = {t.name, framed_tensor_digest(t.name, t.type, t.shape, checkpoint.raw(t))};
  });
  return hex(framed_model_digest(std::move(digests)));
}

}  // namespace concord
