#include "report/picture.hpp"

#include <fmt/format.h>

#include "report/table.hpp"

namespace concord::picture {

std::string svg(int width, int height, const std::string& body) {
  return fmt::format(
      R"(<svg xmlns="http://www.w3.org/2000/svg" width="{0}" height="{1}" viewBox="0 0 {0} {1}" font-family="sans-serif" font-size="12">
<defs><pattern id="none" width="6" height="6" patternUnits="userSpaceOnUse"><rect width="6" height="6" fill="#f4f4f4"/><path d="M0 6L6 0" stroke="#bbb"/></pattern></defs>
<rect width="{0}" height="{1}" fill="#fff"/>
{2}</svg>
)",
      width, height, body);
}

std::string text(int x, int y, const std::string& s, const char* anchor) {
  return fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"{}\">{}</text>\n", x, y, anchor, xml_escaped(s));
}

}  // namespace concord::picture
