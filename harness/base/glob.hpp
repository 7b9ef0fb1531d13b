// Patterns with * (any text) and ? (any one character), matched in time linear in the text for each star: safe for patterns from outside.
#pragma once
#include <string_view>

namespace concord {

bool glob_matches(std::string_view pattern, std::string_view text);  // the whole text

}  // namespace concord
