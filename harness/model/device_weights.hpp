// What a device was given as a model's weights, compared with what it holds.
#pragma once
#include <string>
#include <vector>

#include "device/device.hpp"
#include "digest/digest.hpp"

namespace concord {

// What is known of the weights in a device's memory.
struct DeviceWeightCheck {
  bool offered = false;      // the device computes digests of its weights
  std::size_t matrices = 0;  // uploaded
  std::size_t digests = 0;   // matrices whose digest, computed by the device, is the host's; never counted without it
  std::size_t vectors = 0;   // gains and biases that were read back and are the host's, byte by byte
};

// Filled while a model is loaded. Looks at all of it at the end, so that a later upload that damages an earlier one is
// seen.
class GivenWeights {
 public:
  void matrix(std::string name, const Weight& weight, const Sha256& digest) {
    matrices_.push_back({std::move(name), &weight, digest});
  }
  void vector(std::string name, const Buffer& buffer, std::vector<float> values) {
    vectors_.push_back({std::move(name), &buffer, std::move(values)});
  }
  // Errors: model.weights_differ_on_device (kConformance) with the tensor and both digests, and the device's.
  Result<DeviceWeightCheck> check(Device& device) const;

 private:
  struct Matrix {
    std::string name;
    const Weight* weight;
    Sha256 digest;  // weight_tree_digest of the host's bytes; not looked at where the device offers none
  };
  struct Vector {
    std::string name;
    const Buffer* buffer;
    std::vector<float> values;
  };
  std::vector<Matrix> matrices_;
  std::vector<Vector> vectors_;
};

}  // namespace concord
