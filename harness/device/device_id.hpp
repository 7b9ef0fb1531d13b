// Device ids as text: BACKEND, BACKEND:VARIANT ("cpu:avx2") or, where there are several of a kind,
// BACKEND:INDEX[:VARIANT] ("cuda:0:portable").
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace concord {

std::vector<std::string_view> device_id_parts(std::string_view id);  // between the colons; may be empty ones

// Whether a part is "*".
bool is_device_pattern(std::string_view pattern);
// Part by part, and as many of them; "*" stands for one whole part: "cuda:*" is cuda:0 and cuda:1, "cuda:*:portable" is
// cuda:0:portable. Anything else is itself.
bool matches_device(std::string_view pattern, std::string_view id);

// What devices that can stand for each other have in common: the id without its index. "cuda:portable" for
// cuda:0:portable and cuda:1:portable; "cuda" for cuda:0; an id without an index is its own kind.
std::string device_kind(std::string_view id);

// What an id means among those that exist: "cuda:portable" is cuda:0:portable where there is that one and no
// "cuda:portable"; anything else is itself.
std::string expand_device_id(const std::string& id, const std::vector<std::string>& existing);

}  // namespace concord
