// Rows of a table.
#include "ops.hpp"

namespace reference {

concord_status embedding(const concord_call& call, concord_error* err) {
  const concord_tensor& y = call.out[0];
  const std::size_t tokens = dim(y, 0), width = dim(y, 1);
  const std::int32_t* ids = concord_abi::indices_of(call.in[0]);
  const auto& table = call.weight->stored;
  const auto status =
      concord_abi::check_indices("embedding", "ids", ids, tokens, static_cast<std::int64_t>(table.rows), err);
  if (status != CONCORD_OK) return status;
  for_each(tokens, [&](std::size_t t) {
    std::vector<double> row(width);
    concord_abi::weight_row(table, static_cast<std::size_t>(ids[t]), row.data());
    store_row(y, t, width, row.data());
  });
  return CONCORD_OK;
}

}  // namespace reference
