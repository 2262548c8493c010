// Eight floats at once, by the vector types of GCC and Clang: SSE, AVX2 or NEON, whatever the compiler is told.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

namespace naspix::NASPIX_VARIANT {

constexpr int LANES = 8;
constexpr int AT_ONCE = 5;  // clusters whose sums are held in registers together

typedef float Floats __attribute__((vector_size(32)));
typedef int32_t Ints __attribute__((vector_size(32)));
typedef float Quad __attribute__((vector_size(16)));

#define NASPIX_INLINE inline __attribute__((always_inline))

NASPIX_INLINE Floats load(const float* from) {
    Floats values;
    std::memcpy(&values, from, sizeof values);
    return values;
}

NASPIX_INLINE void store(float* to, const Floats& values) { std::memcpy(to, &values, sizeof values); }

NASPIX_INLINE Floats all(float value) { return value - Floats{}; }  // minus zero is exact for -0.0 too

NASPIX_INLINE float sum(const Floats& values) {
    float total = 0;
    for (int lane = 0; lane < LANES; ++lane) total += values[lane];
    return total;
}

inline int padded(int n) { return (n + LANES - 1) / LANES * LANES; }

// Calls f(M, k) for k = 0, 5, 10, ... with M = how many of n follow, 1 to 5, known when compiled.
template <class F>
NASPIX_INLINE void in_chunks(int n, F f) {
    int k = 0;
    for (; k + AT_ONCE <= n; k += AT_ONCE) f(std::integral_constant<int, AT_ONCE>{}, k);
    switch (n - k) {
        case 4: f(std::integral_constant<int, 4>{}, k); break;
        case 3: f(std::integral_constant<int, 3>{}, k); break;
        case 2: f(std::integral_constant<int, 2>{}, k); break;
        case 1: f(std::integral_constant<int, 1>{}, k); break;
        default: break;
    }
}

}  // namespace naspix::NASPIX_VARIANT
