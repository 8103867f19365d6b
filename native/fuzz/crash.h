// An input that ends the process, kept in a file to reproduce it with.
#pragma once

#include <string>

#include "mutation.h"

namespace persia::fuzz {

std::string name_of(const Input& input);  // a hash of its bytes

// Once: the input under way when the process dies is written to `artifacts` + kind + its name.
void keep_what_crashes(const std::string& program, const std::string& artifacts);
// The input that runs from now until watched().
void watch(const Input& input);
void watched();

}  // namespace persia::fuzz
