// Replaces operator new in a test program by one that counts. Include it in one source only. Plug-ins that are loaded later use it too, since the program's
// symbol comes first.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace concord::testing_support {
inline std::atomic<std::uint64_t> allocation_count{0};
inline std::uint64_t allocations() { return allocation_count.load(); }

inline void* counted(std::size_t bytes, std::size_t alignment) {
  ++allocation_count;
  void* p = alignment > alignof(std::max_align_t) ? std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment) : std::malloc(bytes ? bytes : 1);
  if (!p) throw std::bad_alloc();
  return p;
}
}  // namespace concord::testing_support

void* operator new(std::size_t bytes) { return concord::testing_support::counted(bytes, 0); }
void* operator new(std::size_t bytes, std::align_val_t a) { return concord::testing_support::counted(bytes, static_cast<std::size_t>(a)); }
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
