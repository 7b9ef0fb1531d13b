// Tests only: replaces operator new in a program by one that counts. Include it in one source of the program. Plug-ins that are loaded later use it too,
// since the program's symbol comes first. Not inlined, because the compiler would then see malloc's memory go to a delete that it believes to be its own.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace concord::testing_support {
inline std::atomic<std::uint64_t> allocation_count{0};
inline std::uint64_t allocations() { return allocation_count.load(); }

inline void* counted(std::size_t bytes, std::size_t alignment) noexcept {
  ++allocation_count;
  if (alignment > __STDCPP_DEFAULT_NEW_ALIGNMENT__) return std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  return std::malloc(bytes ? bytes : 1);
}
inline void* counted_or_throw(std::size_t bytes, std::size_t alignment) {
  if (void* p = counted(bytes, alignment)) return p;
  throw std::bad_alloc();
}
}  // namespace concord::testing_support

[[gnu::noinline]] void* operator new(std::size_t bytes) { return concord::testing_support::counted_or_throw(bytes, 0); }
[[gnu::noinline]] void* operator new(std::size_t bytes, std::align_val_t a) {
  return concord::testing_support::counted_or_throw(bytes, static_cast<std::size_t>(a));
}
[[gnu::noinline]] void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept { return concord::testing_support::counted(bytes, 0); }
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, const std::nothrow_t&) noexcept { std::free(p); }
