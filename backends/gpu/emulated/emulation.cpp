// Blocks of threads as fibers of one thread (Boost.Context switches between them in some nanoseconds).
#include <algorithm>
#include <boost/context/fiber.hpp>
#include <boost/context/pooled_fixedsize_stack.hpp>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "gpu/runtime.hpp"

#if defined(CONCORD_ASAN)
#include <sanitizer/common_interface_defs.h>
#endif

namespace {
// What the address sanitizer must hear of a change of stacks; nothing otherwise.
struct Stack {
  void* fake = nullptr;
  const void* bottom = nullptr;
  std::size_t bytes = 0;
};
void will_switch([[maybe_unused]] Stack* leaves, [[maybe_unused]] const Stack& to) {
#if defined(CONCORD_ASAN)
  __sanitizer_start_switch_fiber(leaves ? &leaves->fake : nullptr, to.bottom, to.bytes);
#endif
}
void has_switched([[maybe_unused]] const Stack& here, [[maybe_unused]] Stack* from) {
#if defined(CONCORD_ASAN)
  __sanitizer_finish_switch_fiber(here.fake, from ? &from->bottom : nullptr, from ? &from->bytes : nullptr);
#endif
}
}  // namespace

namespace concord_gpu_emulated {

thread_local Place* place = nullptr;
thread_local unsigned width = 32;

namespace {

constexpr std::size_t kStack = 64u << 10;  // [bytes] of a fiber
constexpr unsigned kMostThreads = 1024;
// Memory that a block may have [bytes]: no more than NVIDIA's GPUs of sm_80 and up have, and as much as AMD's.
std::size_t most_shared() { return width == 64 ? 64u << 10 : 96u << 10; }
enum class State { kReady, kAtBarrier, kAtExchange, kDone };

thread_local Order order = Order::kForward;
thread_local std::uint64_t order_seed = 0;

class BlockRun;
struct Fiber {
  BlockRun* run = nullptr;
  Place where;
  State state = State::kReady;
  std::uint64_t exchanges = 0;  // how many this thread took part in
  boost::context::fiber self, scheduler;
  Stack own, scheduler_stack;
};
thread_local Fiber* current = nullptr;

[[noreturn]] void stop(const char* kernel, const Place& p, const char* what) {
  std::fprintf(stderr, "gpu emulation: kernel %s, block %u,%u, thread %u: %s\n", kernel, p.block, p.block_y, p.thread, what);
  std::abort();
}

// Slots of one warp for values on their way: two sets, so that a slow reader of one exchange does not meet the next one's writer.
struct Warp {
  std::uint64_t slots[2][64];
};

class BlockRun {
 public:
  BlockRun(const char* kernel, unsigned threads, std::size_t dynamic_bytes, const std::function<void()>& body)
      : kernel_(kernel), fibers_(threads), warps_(threads / width), dynamic_(std::max<std::size_t>(16, dynamic_bytes)), body_(body), stacks_(kStack) {
    visit_.resize(threads);
    std::iota(visit_.begin(), visit_.end(), 0u);
    if (order == Order::kBackward) std::reverse(visit_.begin(), visit_.end());
    for (Fiber& f : fibers_) start(f);
  }

  void run(unsigned x, unsigned y, unsigned grid_x) {
    for (auto& [key, memory] : shared_) std::memset(memory.get(), 0xff, sizes_[key]);
    std::memset(dynamic_.data(), 0xff, dynamic_.size());
    for (unsigned t = 0; t < fibers_.size(); ++t) {
      fibers_[t].where = {t, static_cast<unsigned>(fibers_.size()), x, y, grid_x};
      fibers_[t].state = State::kReady, fibers_[t].exchanges = 0;
    }
    while (round()) release();
  }

  void* shared(const void* key, std::size_t bytes) {
    if (!key) return dynamic_.data();
    auto& memory = shared_[key];
    if (!memory) {
      used_ += bytes;
      if (used_ + dynamic_.size() > most_shared()) stop(kernel_, *place, "more shared memory than a block has");
      memory.reset(static_cast<unsigned char*>(std::aligned_alloc(64, (bytes + 63) / 64 * 64)));
      std::memset(memory.get(), 0xff, bytes), sizes_[key] = bytes;
    }
    return memory.get();
  }
  std::uint64_t exchange(Fiber& f, std::uint64_t bits, unsigned from) {
    const std::size_t set = f.exchanges++ % 2;
    auto& slots = warps_[f.where.thread / width].slots[set];
    slots[f.where.thread % width] = bits;
    wait(f, State::kAtExchange);
    if (from >= width) stop(kernel_, f.where, "a shuffle from a lane that the warp does not have");
    return slots[from];
  }
  static void wait(Fiber& f, State state) {
    f.state = state;
    leave(f);
  }

 private:
  struct Free {
    void operator()(unsigned char* p) const { std::free(p); }
  };

  // A fiber lives through all blocks of a launch and waits, between two, for its next one.
  void start(Fiber& f) {
    f.run = this;
    f.self = boost::context::fiber(std::allocator_arg, stacks_, [this, &f](boost::context::fiber&& scheduler) {
      f.scheduler = std::move(scheduler);
      has_switched(f.own, &f.scheduler_stack);
      while (!ending_) {
        body_();
        f.state = State::kDone;
        leave(f);
      }
      return leave_for_good(f);
    });
  }
  static boost::context::fiber leave_for_good(Fiber& f) {
    will_switch(nullptr, f.scheduler_stack);
    return std::move(f.scheduler);
  }
  static void leave(Fiber& f) {
    will_switch(&f.own, f.scheduler_stack);
    f.scheduler = std::move(f.scheduler).resume();
    has_switched(f.own, &f.scheduler_stack);
  }
  void enter(Fiber& f) {
    current = &f, place = &f.where;
    // The pool gives no address of a stack; the sanitizer then takes the fiber's frames for what they are, unchecked.
    Stack own;
    will_switch(&own, {});
    f.self = std::move(f.self).resume();
    has_switched(own, nullptr);
    current = nullptr, place = nullptr;
  }

  // Runs every thread that can go on. False when all are done.
  bool round() {
    if (order == Order::kShuffled)
      for (std::size_t i = visit_.size(); i > 1; --i) std::swap(visit_[i - 1], visit_[random() % i]);
    for (unsigned t : visit_)
      if (fibers_[t].state == State::kReady) enter(fibers_[t]);
    return !std::all_of(fibers_.begin(), fibers_.end(), [](const Fiber& f) { return f.state == State::kDone; });
  }

  // Lets go on who waits for nothing any more: a warp whose lanes all exchange, or a block whose threads all stand at the barrier.
  void release() {
    bool any = false;
    for (std::size_t w = 0; w < warps_.size(); ++w) {
      Fiber* lanes = fibers_.data() + w * width;
      if (!std::all_of(lanes, lanes + width, [](const Fiber& f) { return f.state == State::kAtExchange; })) continue;
      for (unsigned i = 0; i < width; ++i) {
        if (lanes[i].exchanges != lanes[0].exchanges) stop(kernel_, lanes[i].where, "lanes of a warp meet in different shuffles");
        lanes[i].state = State::kReady;
      }
      any = true;
    }
    if (any) return;
    for (Fiber& f : fibers_)
      if (f.state != State::kAtBarrier) stop(kernel_, f.where, f.state == State::kDone ? "ended while other threads of its block wait" : "waits in a shuffle that not every lane of its warp reaches");
    for (Fiber& f : fibers_) f.state = State::kReady;
  }
  std::uint64_t random() { return order_seed = order_seed * 6364136223846793005u + 1442695040888963407u, order_seed >> 33; }

  const char* kernel_;
  std::vector<Fiber> fibers_;
  std::vector<Warp> warps_;
  std::vector<unsigned> visit_;
  std::map<const void*, std::unique_ptr<unsigned char, Free>> shared_;
  std::map<const void*, std::size_t> sizes_;
  std::size_t used_ = 0;
  std::vector<unsigned char> dynamic_;
  const std::function<void()>& body_;
  bool ending_ = false;
  boost::context::pooled_fixedsize_stack stacks_;

 public:
  ~BlockRun() {
    ending_ = true;
    for (Fiber& f : fibers_) enter(f);
  }
};

}  // namespace

void sync() { BlockRun::wait(*current, State::kAtBarrier); }
std::uint64_t exchange(std::uint64_t bits, unsigned from) { return current->run->exchange(*current, bits, from); }
void* shared(const void* key, std::size_t bytes) { return current->run->shared(key, bytes); }

void set_order(Order o, std::uint64_t seed) { order = o, order_seed = seed; }

Error launch(const char* kernel, unsigned grid_x, unsigned grid_y, unsigned threads, std::size_t shared_bytes, const std::function<void()>& body) {
  const bool fits = threads >= 1 && threads <= kMostThreads && threads % width == 0 && grid_x >= 1 && grid_y >= 1 && grid_y <= 65535 && shared_bytes <= most_shared();
  if (!fits) {
    std::fprintf(stderr, "gpu emulation: kernel %s: a grid of %u x %u blocks of %u threads (warps of %u) with %zu bytes is none that a GPU takes\n", kernel, grid_x, grid_y,
                 threads, width, shared_bytes);
    return Error::kLaunch;
  }
  BlockRun run(kernel, threads, shared_bytes, body);
  for (unsigned y = 0; y < grid_y; ++y)
    for (unsigned x = 0; x < grid_x; ++x) run.run(x, y, grid_x);
  return kSuccess;
}

bool out_of_memory(Error e) { return e == Error::kMemory; }
const char* error_text(Error e) {
  constexpr const char* kTexts[] = {"no error", "out of memory", "invalid launch"};
  return kTexts[static_cast<int>(e)];
}
Error allocate(void** p, std::size_t bytes) {
  *p = std::aligned_alloc(256, (std::max<std::size_t>(bytes, 1) + 255) / 256 * 256);
  return *p ? kSuccess : Error::kMemory;
}
Error release(void* p) { return std::free(p), kSuccess; }
Error allocate_host(void** p, std::size_t bytes) { return allocate(p, bytes); }
Error release_host(void* p) { return release(p); }

}  // namespace concord_gpu_emulated
