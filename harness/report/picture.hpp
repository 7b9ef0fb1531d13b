// What the pictures of reports have in common, as SVG. Internal.
#pragma once
#include <string>

namespace concord::picture {

// A whole file: white ground, and the pattern `url(#none)` for cells without a value. Sizes in px.
std::string svg(int width, int height, const std::string& body);
std::string text(int x, int y, const std::string& s, const char* anchor = "middle");

}  // namespace concord::picture
