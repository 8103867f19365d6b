// Tests register themselves by TEST(name); CHECK reports file and line, and lets the test go on.
#pragma once

#include <functional>
#include <iostream>
#include <string>
#include <vector>

namespace persia::testing {

struct Test {
  std::string name;
  std::function<void()> run;
};

inline std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}

inline int failures = 0;

struct Registrar {
  Registrar(std::string name, std::function<void()> run) {
    tests().push_back({std::move(name), std::move(run)});
  }
};

inline void report(bool holds, const char* what, const char* file, int line) {
  if (holds) return;
  ++failures;
  std::cerr << file << ":" << line << ": not so: " << what << "\n";
}

}  // namespace persia::testing

#define TEST(name)                                                               \
  static void test_##name();                                                     \
  static const persia::testing::Registrar registrar_##name(#name, &test_##name); \
  static void test_##name()

#define CHECK(condition) persia::testing::report((condition), #condition, __FILE__, __LINE__)

#define CHECK_THROWS(type, expression)                                                 \
  do {                                                                                 \
    bool thrown = false;                                                               \
    try {                                                                              \
      static_cast<void>(expression);                                                   \
    } catch (const type&) {                                                            \
      thrown = true;                                                                   \
    }                                                                                  \
    persia::testing::report(thrown, #expression " throws " #type, __FILE__, __LINE__); \
  } while (false)
