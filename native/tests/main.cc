#include <exception>

#include "check.h"

int main() {
  using persia::testing::failures;
  for (const auto& test : persia::testing::tests()) {
    const int before = failures;
    try {
      test.run();
    } catch (const std::exception& error) {
      ++failures;
      std::cerr << test.name << ": threw: " << error.what() << "\n";
    }
    std::cout << (failures == before ? "ok     " : "FAILED ") << test.name << "\n";
  }
  std::cout << persia::testing::tests().size() << " tests, " << failures << " failures\n";
  return failures == 0 ? 0 : 1;
}
