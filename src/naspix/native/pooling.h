// Means or sums of maps over regions, laid out again: superpixels have few runs in a row, and long ones.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace naspix::NASPIX_VARIANT {

// In double precision, in eight sums side by side.
static double sum_of(const float* values, int64_t n) {
    double sums[8] = {};
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int j = 0; j < 8; ++j) sums[j] += values[i + j];
    for (; i < n; ++i) sums[0] += values[i];
    return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

// maps (M, P) and labels (P,) of one image. Labels may be any numbers less than P apart.
static Outcome pool(const float* maps, const int64_t* labels, int64_t n_maps, int64_t n_pixels, bool mean,
                    float* out) {
    struct Run {
        int64_t stop, region;
    };
    std::vector<Run> runs;
    int64_t low = labels[0], high = labels[0];
    for (int64_t start = 0, stop; start < n_pixels; start = stop) {
        const int64_t label = labels[start];
        stop = start + 1;
        while (stop < n_pixels && labels[stop] == label) ++stop;
        runs.push_back({stop, label});
        low = std::min(low, label);
        high = std::max(high, label);
    }
    if (uint64_t(high) - uint64_t(low) >= uint64_t(n_pixels)) return FAR_APART;
    std::vector<double> sums(size_t(high - low + 1)), areas(sums.size());
    int64_t start = 0;
    for (Run& run : runs) {
        run.region -= low;
        areas[run.region] += double(run.stop - start);
        start = run.stop;
    }
    std::vector<float> values(sums.size());
    for (int64_t map = 0; map < n_maps; ++map, maps += n_pixels, out += n_pixels) {
        std::fill(sums.begin(), sums.end(), 0.0);
        start = 0;
        for (const Run& run : runs) {
            sums[run.region] += sum_of(maps + start, run.stop - start);
            start = run.stop;
        }
        for (size_t region = 0; region < sums.size(); ++region) {
            if (!std::isfinite(sums[region])) return NOT_FINITE;
            values[region] = float(mean && areas[region] ? sums[region] / areas[region] : sums[region]);
        }
        start = 0;
        for (const Run& run : runs) {
            std::fill(out + start, out + run.stop, values[run.region]);
            start = run.stop;
        }
    }
    return DONE;
}

}  // namespace naspix::NASPIX_VARIANT
