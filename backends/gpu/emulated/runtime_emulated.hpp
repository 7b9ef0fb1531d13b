// backends/gpu/runtime.hpp on the CPU: every thread of a block is a fiber, blocks run one after another. For tests of the kernels' logic where there is no GPU, never for speed.
// Stricter than a GPU: a barrier or a shuffle that not every thread reaches, a block that is no whole number of warps, shared memory that is read before it is written (it
// begins as NaN) and, by running the fibers in another order, a missing barrier, are found. Device memory is host memory, so that an address sanitizer sees it.
#pragma once
#include <cmath>
#include <cstring>
#include <functional>
#include <tuple>

#define GPU_KERNEL static void
#define GPU_DEVICE inline
#define GPU_BOTH inline
#define GPU_BOUNDS(threads)
#define GPU_SHARED(type, name)     \
  using name##_type = type;        \
  static const char name##_key = 0; \
  auto& name = *static_cast<name##_type*>(::concord_gpu_emulated::shared(&name##_key, sizeof(name##_type)))
#define GPU_DYNAMIC_SHARED(name) auto* name = static_cast<unsigned char*>(::concord_gpu_emulated::shared(nullptr, 0))
#define GPU_LAUNCH(kernel, grid_x, grid_y, threads, shared_bytes, stream, ...) \
  ((void)(stream), ::concord_gpu_emulated::launch_kernel(#kernel, grid_x, grid_y, threads, shared_bytes, kernel __VA_OPT__(, ) __VA_ARGS__))

namespace concord_gpu_emulated {

inline constexpr const char* kTarget = "gpu";
enum class Error { kNone, kMemory, kLaunch };
inline constexpr Error kSuccess = Error::kNone;
using Stream = struct StreamTag*;
using Event = struct EventTag*;
bool out_of_memory(Error e);
const char* error_text(Error e);

// Where the calling fiber stands.
struct Place {
  unsigned thread = 0, threads = 0, block = 0, block_y = 0, blocks = 0;
};
extern thread_local Place* place;
extern thread_local unsigned width;  // lanes of a warp, as use_device() set it

inline unsigned thread() { return place->thread; }
inline unsigned threads() { return place->threads; }
inline unsigned block() { return place->block; }
inline unsigned block_y() { return place->block_y; }
inline unsigned blocks() { return place->blocks; }
inline unsigned warp_width() { return width; }
void sync();
// The value that lane `from` of this warp published in the same exchange.
std::uint64_t exchange(std::uint64_t bits, unsigned from);
template <class T>
T exchange_from(T v, unsigned lane) {
  static_assert(sizeof(T) <= 8);
  std::uint64_t bits = 0;
  std::memcpy(&bits, &v, sizeof v);
  bits = exchange(bits, lane);
  std::memcpy(&v, &bits, sizeof v);
  return v;
}
template <class T>
T exchange_xor(T v, unsigned mask) {
  return exchange_from(v, (place->thread % width) ^ mask);
}
inline float fused(float a, float b, float c) { return std::fmaf(a, b, c); }
inline bool claim(unsigned* flag, unsigned value) { return *flag == 0 ? (*flag = value, true) : false; }

// Memory of the running block; the same for every thread that gives the same key. NULL: the launch's dynamic memory.
void* shared(const void* key, std::size_t bytes);
Error launch(const char* kernel, unsigned grid_x, unsigned grid_y, unsigned threads, std::size_t shared_bytes, const std::function<void()>& body);
template <class... P, class... A>
Error launch_kernel(const char* name, unsigned grid_x, unsigned grid_y, unsigned threads, std::size_t shared_bytes, void (*kernel)(P...), A&&... arguments) {
  const std::tuple<P...> values(static_cast<A&&>(arguments)...);
  return launch(name, grid_x, grid_y, threads, shared_bytes, [&] { std::apply(kernel, values); });
}

// In which order the fibers of a block run between barriers. Results must not depend on it; a test runs several.
enum class Order { kForward, kBackward, kShuffled };
void set_order(Order order, std::uint64_t seed = 0);

Error use_device(int i);
Error allocate(void** p, std::size_t bytes);
Error release(void* p);
Error allocate_host(void** p, std::size_t bytes);
Error release_host(void* p);
inline Error clear(void* p, std::size_t bytes, Stream) { return std::memset(p, 0, bytes), kSuccess; }
inline Error copy_in(void* to, const void* from, std::size_t bytes, Stream) { return std::memcpy(to, from, bytes), kSuccess; }
inline Error copy_out(void* to, const void* from, std::size_t bytes, Stream) { return std::memcpy(to, from, bytes), kSuccess; }
inline Error copy_within(void* to, const void* from, std::size_t bytes, Stream) { return std::memmove(to, from, bytes), kSuccess; }
inline Error create_stream(Stream* s) { return *s = nullptr, kSuccess; }
inline Error destroy_stream(Stream) { return kSuccess; }
inline Error wait_stream(Stream) { return kSuccess; }
inline Error wait_device() { return kSuccess; }
inline Error create_event(Event* e) { return *e = nullptr, kSuccess; }
inline Error destroy_event(Event) { return kSuccess; }
inline Error record(Event, Stream) { return kSuccess; }
inline Error wait_event(Event) { return kSuccess; }
inline Error stream_waits(Stream, Event) { return kSuccess; }
inline Error last_error() { return kSuccess; }
template <class Kernel>
Error allow_shared(Kernel*, std::size_t) {
  return kSuccess;
}

}  // namespace concord_gpu_emulated
