// One source, compiled for several instruction sets, chosen when the program is loaded.
#pragma once

#include <cstddef>  // defines __GLIBC__, whose loader knows such functions

// Sanitizers start later than the resolvers of such functions run.
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define PERSIA_MULTIVERSION __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define PERSIA_MULTIVERSION
#endif
