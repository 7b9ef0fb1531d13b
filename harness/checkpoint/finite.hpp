// Numbers that no trained weight has. A file can be well-formed and still hold them: a half-precision block scale of
// infinity, a row of NaN.
#pragma once
#include "checkpoint/checkpoint.hpp"

namespace concord {

// Decodes the whole tensor, a few thousand elements at a time. Error checkpoint.not_finite: index of the first element
// that is NaN or infinite, and the byte position of its block. Types that cannot be decoded are
// checkpoint.not_decodable.
Status check_finite(const Checkpoint& checkpoint, const TensorInfo& tensor);

}  // namespace concord
