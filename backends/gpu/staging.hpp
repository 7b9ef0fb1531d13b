// Ordinary host memory on its way to and from a device: through two page-locked blocks in turn, so that the processor fills or empties one while the other is copied.
#pragma once
#include "gpu/device.hpp"

namespace CONCORD_GPU {

class Staging {
 public:
  static constexpr std::size_t kBlock = 8u << 20;  // [bytes]
  static concord_status create(std::unique_ptr<Staging>& staging, concord_error* err);
  ~Staging();

  // Returns when `from` may be changed; the copy itself may still be under way on the stream. `rows` rows of row_bytes are laid out every `pitch` bytes, zeros between.
  concord_status in(std::byte* to, const std::byte* from, std::size_t rows, std::size_t row_bytes, std::size_t pitch, Stream stream, concord_error* err);
  // Returns when everything has arrived.
  concord_status out(std::byte* to, const std::byte* from, std::size_t bytes, Stream stream, concord_error* err);

 private:
  Staging() = default;
  struct Block {
    void* memory = nullptr;
    Event copied{};
  };
  Block blocks_[2];
  unsigned next_ = 0;
};

}  // namespace CONCORD_GPU
