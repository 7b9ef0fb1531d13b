// The host's side of a GPU device, the same for every target: what a device holds, what an operator gets, and which operators there are.
#pragma once
#include <array>
#include <memory>
#include <string>
#include <vector>

#include "abi/concord_validate.hpp"
#include "gpu/runtime.hpp"

namespace CONCORD_GPU {

// A way of using a GPU that can be selected: one device of the plug-in for each GPU and variant. The id is BACKEND:NUMBER for the first variant, else BACKEND:NUMBER:NAME.
struct Variant {
  const char* name;   // "" for the first
  const char* title;  // for people
  bool tiles;         // matrix instructions where the types allow it; without: multiply-adds alone, in one order on every target
  bool library;       // the vendor's matmul where weights and activations have one type
  bool tf32;          // and float32 operands cut to TF32 in it
};

// What a kernel found in device memory that makes the call invalid; the first one to find something wins.
struct Fault {
  unsigned op;       // concord_op + 1; 0: nothing
  unsigned operand;  // of in[]
  int index, value;  // element, and what stood there
  long long limit;   // it should be less than this; 0: it stands there twice
};

enum Slot : unsigned { kSlotX, kSlotY, kSlotPartial, kSlotLibrary, kSlots };  // scratch memory by use

class Library;  // the vendor's matmul: library.hpp
class Staging;  // page-locked memory through which ordinary host memory is copied: staging.hpp

}  // namespace CONCORD_GPU

struct concord_buffer {
  std::byte* data = nullptr;  // device memory, 256-byte aligned
  std::uint64_t bytes = 0;
};
struct concord_stream {
  CONCORD_GPU::Stream stream{};
};

// As stored, never widened: a row begins every `pitch` bytes (a multiple of 16), scales and zeros are as in concord_weight_desc.
struct concord_weight {
  std::uint32_t dtype = 0, group = 0;
  std::int64_t rows = 0, cols = 0, groups = 0;  // groups of a row
  std::size_t row_bytes = 0, pitch = 0;
  const std::byte* data = nullptr;
  const std::byte* scales = nullptr;      // F32 [rows] (I8), F16 [rows][groups] (U4), NULL
  const std::uint8_t* zeros = nullptr;    // [rows][groups] or NULL (8)
  void* memory = nullptr;                 // the one allocation that the three lie in
  std::uint64_t bytes = 0;
};

struct concord_device {
  concord_device(const CONCORD_GPU::Variant& v, int gpu);
  ~concord_device();
  concord_device(const concord_device&) = delete;

  const CONCORD_GPU::Variant& variant;
  int ordinal;                         // of the GPU
  CONCORD_GPU::Properties properties;
  CONCORD_GPU::Stream stream{};        // what the ABI calls the default stream
  CONCORD_GPU::Event event{};          // for ordering streams
  CONCORD_GPU::Fault* fault = nullptr;       // device memory, zero while nothing is wrong
  CONCORD_GPU::Fault* fault_copy = nullptr;  // page-locked
  std::unique_ptr<CONCORD_GPU::Staging> staging;
  std::unique_ptr<CONCORD_GPU::Library> library;  // NULL where the variant has none
  std::uint64_t memory_now = 0, memory_peak = 0;  // [bytes], weights, buffers and scratch
  std::uint64_t fallbacks = 0;
  struct Scratch {
    void* memory = nullptr;
    std::uint64_t bytes = 0;
    CONCORD_GPU::Stream user{};  // on which it was last asked for; NULL: nobody's
  };
  std::array<Scratch, CONCORD_GPU::kSlots> scratch{};
  struct HostRange {
    const std::byte* begin;
    std::uint64_t bytes;
  };
  std::vector<HostRange> page_locked;  // what host_create() gave out
};

namespace CONCORD_GPU {

// CONCORD_OK, or the error in the ABI's terms: out of memory by that name, everything else CONCORD_DEVICE_ERROR with the runtime's own words.
concord_status status_of(Error e, const char* what, concord_error* err);

// Device memory, counted. CONCORD_OUT_OF_MEMORY says how much was asked for and how much this device holds.
concord_status take(concord_device& d, std::uint64_t bytes, void** memory, concord_error* err);
void give_back(concord_device& d, void* memory, std::uint64_t bytes);
// Memory of one use, kept and grown, for what is queued on `stream`; its contents last until the next call that asks for the slot. Streams share it: where another one had it
// before, `stream` waits for what is queued there.
concord_status scratch(concord_device& d, Slot slot, std::uint64_t bytes, Stream stream, void** memory, concord_error* err);
// Waits for the stream; then the fault that a kernel reported, as CONCORD_INVALID, once.
concord_status settle(concord_device& d, Stream stream, concord_error* err);

// One operator call that was checked.
struct Context {
  concord_device& device;
  const concord_call& call;
  Stream stream;
  concord_witness& witness;  // determinism: preset to CONCORD_IDENTICAL_PER_CONFIGURATION; kernel: preset to "<op>: <target> rows wave<width>"
  concord_error* err;

  std::uint32_t dtype() const { return concord_abi::activation_dtype(call); }
  concord_status done(Error e) const { return status_of(e, concord_abi::op_name(call.op), err); }
};

inline unsigned dim(const concord_tensor& t, int axis) { return static_cast<unsigned>(t.dims[axis]); }
template <class T = void>
T* data(const concord_tensor& t) {
  return reinterpret_cast<T*>(t.buffer->data + t.byte_offset);
}
inline unsigned ceil_div(std::uint64_t a, std::uint64_t b) { return static_cast<unsigned>((a + b - 1) / b); }

// The operators, in files of their own under kernels/. Each launches on c.stream and returns without waiting.
concord_status embedding(Context& c);
concord_status rmsnorm(Context& c);
concord_status layernorm(Context& c);
concord_status matmul(Context& c);
concord_status rope(Context& c);
concord_status kv_append(Context& c);
concord_status attention(Context& c);
concord_status swiglu(Context& c);
concord_status gelu(Context& c);
concord_status add(Context& c);
concord_status softmax(Context& c);
concord_status topk_routing(Context& c);
concord_status argmax(Context& c);
concord_status sample(Context& c);
// The digest of a weight as it lies in device memory (docs/weight-digest.md).
concord_status weight_digest(concord_device& d, const concord_weight& w, std::uint8_t digest[32], concord_error* err);

// Why no GPU device computes this attention call (a head that is too long), or NULL.
const char* attention_refuses(const concord_call& call);

// What each target supplies (backends/cuda/target.cpp, backends/hip/target.cpp, backends/gpu/emulated/target.cpp).
const Variant* variants(unsigned& count);
int gpus();                                                   // at least 1: where there is none, number 0 stands for it and unavailable() says why
std::string device_id(int gpu, const Variant& v);             // "cuda:0:portable"
concord_status describe(int gpu, Properties& properties, concord_error* err);
std::string unavailable(int gpu, const Variant& v);           // why this variant does not run there; empty where it does
std::string features(int gpu, const Variant& v);              // as in concord_device_info; "device-memory" is added to it
std::string libraries();                                      // runtime and libraries with their versions
const char* vendor();
const char* build();                                          // compiler and flags that touch arithmetic
// The vendor's matmul for a variant that has it. Where it does not open, the device does not: other kernels in its place would be a fallback.
concord_status open_library(concord_device& d, std::unique_ptr<Library>& library, concord_error* err);

}  // namespace CONCORD_GPU
