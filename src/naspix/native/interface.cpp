// The flat interface that Python calls; images of a batch are computed side by side, each on one thread.
#include "interface.h"

#include <atomic>
#include <new>
#include <thread>
#include <vector>

#include "components.h"

namespace naspix {
namespace {

bool has_avx2() {
#if defined(NASPIX_AVX2)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
    return false;
#endif
}

const Variant& variant() {
#if defined(NASPIX_AVX2)
    static const Variant& chosen = has_avx2() ? avx2_variant : baseline_variant;
    return chosen;
#else
    return baseline_variant;
#endif
}

// Calls f(image) for every image of a batch, on up to n_threads threads, which end with the call.
template <class F>
void side_by_side(int64_t n_images, int64_t n_threads, F f) {
    std::atomic<int64_t> next{0};
    const auto work = [&] {
        for (int64_t image; (image = next++) < n_images;) f(image);
    };
    std::vector<std::thread> threads;
    try {
        for (int64_t i = 1; i < std::min(n_threads, n_images); ++i) threads.emplace_back(work);
    } catch (const std::exception&) {  // no more threads: those there are will do
    }
    work();
    for (auto& thread : threads) thread.join();
}

template <class F>
Outcome guarded(F f) {
    try {
        return f() ? DONE : EMPTY_CLUSTER;
    } catch (const std::bad_alloc&) {
        return NO_MEMORY;
    }
}

}  // namespace
}  // namespace naspix

using namespace naspix;

#if defined(_WIN32)
#define EXPORT extern "C" __declspec(dllexport)
#else
#define EXPORT extern "C" __attribute__((visibility("default")))
#endif

EXPORT int32_t naspix_interface() { return 2; }  // to be counted up when a signature or struct changes

EXPORT int32_t naspix_has_avx2() { return has_avx2(); }

EXPORT Axis* naspix_axis_new(const float* matrix, int64_t n_pixels, int64_t n_cells) {
    try {
        return new Axis(matrix, int(n_pixels), int(n_cells));
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}

EXPORT void naspix_axis_free(Axis* axis) { delete axis; }

// Outcomes (B,): DONE, EMPTY_CLUSTER for norms that are not finite, NO_MEMORY.
EXPORT void naspix_scales(const float* activations, int64_t n_images, int64_t n_channels, const Axis* y,
                          const Axis* x, float line_11, int32_t normalize, int64_t n_threads, float* scales,
                          int32_t* outcomes) {
    side_by_side(n_images, n_threads, [&](int64_t image) {
        outcomes[image] = guarded([&] {
            return variant().scales(activations + image * n_channels * y->n_cells * x->n_cells, int(n_channels),
                                    *y, *x, line_11, normalize, scales + image * y->n_pixels * x->n_pixels);
        });
    });
}

EXPORT void naspix_cluster(const ClusteringGiven* given, int64_t* labels, int32_t* outcomes) {
    side_by_side(given->n_images, given->n_threads, [&](int64_t image) {
        outcomes[image] = guarded([&] { return variant().cluster(*given, image, labels); });
    });
}

// maps (B, M, P), labels (B, P). Outcomes (B,): DONE, FAR_APART for labels, NOT_FINITE for maps, NO_MEMORY.
EXPORT void naspix_pool(const float* maps, const int64_t* labels, int64_t n_images, int64_t n_maps,
                        int64_t n_pixels, int32_t mean, int64_t n_threads, float* out, int32_t* outcomes) {
    side_by_side(n_images, n_threads, [&](int64_t image) {
        try {
            const int64_t start = image * n_maps * n_pixels;
            outcomes[image] = variant().pool(maps + start, labels + image * n_pixels, n_maps, n_pixels, mean,
                                             out + start);
        } catch (const std::bad_alloc&) {
            outcomes[image] = NO_MEMORY;
        }
    });
}

EXPORT void naspix_components(const int64_t* labels, int64_t n_images, int64_t height, int64_t width,
                              int32_t corners, int64_t n_threads, int64_t* components, int32_t* outcomes) {
    side_by_side(n_images, n_threads, [&](int64_t image) {
        outcomes[image] = guarded([&] {
            const int64_t start = image * height * width;
            label_components(labels + start, height, width, corners, components + start);
            return true;
        });
    });
}
