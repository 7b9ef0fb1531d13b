// A model's weights on a device, in one running precision.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.hpp"
#include "device/device.hpp"
#include "digest/digest.hpp"
#include "model/device_weights.hpp"
#include "model/precision.hpp"
#include "model/spec.hpp"

namespace concord {

struct LoadProgress {
  std::function<void(std::size_t done, std::size_t total)> step;  // tensors; may be empty; called after each batch
  std::uint64_t batch_bytes = 16u << 20;                          // 1/32 of the model where that is more
};

// Vectors (gains, biases) are float32 buffers; matrices are prepared weights. An absent bias has size 0.
struct LayerWeights {
  Buffer input_norm, post_norm, q_norm, k_norm;
  Weight q, k, v, o, gate, up, down;
  Buffer q_bias, k_bias, v_bias, o_bias, gate_bias, up_bias, down_bias;
};

class LoadedModel {
 public:
  // Reads every tensor the specification expects, converts it to the precision, uploads it. The device must outlive the model; only the calling thread
  // uses it. Besides the weights only two batches of tensors are in memory (docs/models.md), and the checkpoint's pages are given back on the way.
  // When all is uploaded, what the device holds is compared with what it was given (GivenWeights): error model.weights_differ_on_device.
  // Linear layers inside the blocks are quantised; embedding and lm_head keep RunPrecision::unquantized().
  static Result<LoadedModel> load(Device& device, const Checkpoint& checkpoint, const ModelSpec& spec,
                                  const RunPrecision& precision, const LoadProgress& progress = {});

  const ModelSpec& spec() const { return spec_; }
  const RunPrecision& precision() const { return precision_; }
  // Framed model digest over all tensors as they run (quantised bytes, scales and zeros included): equal on two machines that hold the same weights in
  // the same precision, whatever their device.
  const std::string& weights_digest() const { return weights_digest_; }
  // What source_digest() gives for the checkpoint, made while it was read.
  const std::string& source_digest() const { return source_digest_; }
  // How far it is known that the device holds what it was given.
  const DeviceWeightCheck& device_check() const { return device_check_; }
  std::uint64_t weight_bytes() const { return weight_bytes_; }  // in the running precision [bytes]

  const std::vector<LayerWeights>& layers() const { return layers_; }
  const Weight& embedding() const { return embedding_; }
  const Weight& lm_head() const { return spec_.tied_embeddings ? embedding_ : lm_head_; }  // tied: one upload serves both uses
  const Buffer& final_norm() const { return final_norm_; }

 private:
  ModelSpec spec_;
  RunPrecision precision_;
  std::string weights_digest_, source_digest_;
  std::uint64_t weight_bytes_ = 0;
  DeviceWeightCheck device_check_;
  std::vector<LayerWeights> layers_;
  Weight embedding_, lm_head_;
  Buffer final_norm_;
};

// Framed model digest over the checkpoint's own stored tensors (hex): what was on disk, whatever it runs as.
std::string source_digest(const Checkpoint& checkpoint);

}  // namespace concord
