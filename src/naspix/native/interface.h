// What Python hands over, and what both compiled variants offer.
#pragma once

#include <cstdint>

#include "axis.h"

namespace naspix {

// One level of a batch, and its way to the frame and to tiles of it.
struct LevelGiven {
    int64_t n_channels, height, width;
    const float* activations;  // (B, C, h, w)
    const float* scales;       // (B, H, W)
    const Axis* axes[3][2];    // y and x: to the frame, to large tiles, to small ones (or null)
};

struct ClusteringGiven {
    int64_t n_images, height, width, n_levels, n_clusters;
    const LevelGiven* levels;
    int64_t large, small;     // sides of the tiles; small is 0 where there are none
    int64_t n_init, n_trials;
    const float* draws;       // (K, n_init, n_trials), uniform
    const float* init;        // (B, K, D) or null: centres to begin with
    double tol, tile_tol;
    int64_t max_iter, tile_max_iter;
    double long_stride;
    int64_t n_threads;
};

enum Outcome : int32_t { DONE = 0, EMPTY_CLUSTER = 1, NO_MEMORY = 2, FAR_APART = 3, NOT_FINITE = 4 };

struct Variant {
    bool (*scales)(const float*, int, const Axis&, const Axis&, float, bool, float*);
    bool (*cluster)(const ClusteringGiven&, int64_t image, int64_t* labels);
    Outcome (*pool)(const float*, const int64_t*, int64_t n_maps, int64_t n_pixels, bool mean, float*);
};

extern const Variant baseline_variant;
extern const Variant avx2_variant;

}  // namespace naspix
