// Names inside an embedding part that its writer and its reader share.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "persia/table_spec.h"

namespace persia {

inline constexpr const char* kPartFormat = "persia-embedding-2";
inline constexpr const char* kCutKey = "cut";          // only of parts of a chain
inline constexpr const char* kFollowsKey = "follows";  // only of deltas

const char* dtype_of(WeightType type);                            // of a tensor of weights
std::string hex64(std::uint64_t value);                           // 16 hex digits
std::string optimizers_of(const std::vector<TableSpec>& tables);  // "user=adagrad,item=sgd"

}  // namespace persia
