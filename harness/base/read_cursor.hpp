// An input iterator over text that reports how far it has been read. nlohmann's SAX callbacks carry no position; this gives them one.
#pragma once
#include <cstddef>
#include <iterator>

namespace concord {

class ReadCursor {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;
  // `reached` is set to the place behind the last character that was read; null for an end iterator.
  ReadCursor(const char* p, const char** reached) : p_(p), reached_(reached) {}
  reference operator*() const { return *p_; }
  ReadCursor& operator++() {
    ++p_;
    if (reached_) *reached_ = p_;
    return *this;
  }
  ReadCursor operator++(int) {
    ReadCursor old = *this;
    ++*this;
    return old;
  }
  bool operator==(const ReadCursor& o) const { return p_ == o.p_; }

 private:
  const char* p_;
  const char** reached_;
};

}  // namespace concord
