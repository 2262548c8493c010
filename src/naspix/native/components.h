// Connected components of equal labels: runs of a row joined with the runs above, the older one wins.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace naspix {

// Ids from 0 without gaps, in raster order of each component's first pixel.
inline void label_components(const int64_t* labels, int64_t height, int64_t width, bool corners, int64_t* out) {
    struct Run {
        int64_t label, start, stop;
    };
    std::vector<Run> runs;
    std::vector<int64_t> parents;
    const auto root = [&](int64_t run) {
        while (parents[run] != run) run = parents[run] = parents[parents[run]];
        return run;
    };
    const int64_t reach = corners ? 1 : 0;
    size_t above = 0, above_end = 0;  // the runs of the row before
    for (int64_t row = 0; row < height; ++row) {
        const int64_t* here = labels + row * width;
        const size_t begin = runs.size();
        size_t candidate = above;
        for (int64_t start = 0, stop; start < width; start = stop) {
            stop = start + 1;
            while (stop < width && here[stop] == here[start]) ++stop;
            const int64_t id = int64_t(runs.size());
            runs.push_back({here[start], start, stop});
            parents.push_back(id);
            while (candidate < above_end && runs[candidate].stop + reach <= start) ++candidate;
            for (size_t other = candidate; other < above_end && runs[other].start < stop + reach; ++other) {
                if (runs[other].label != here[start]) continue;
                const int64_t a = root(int64_t(other)), b = root(id);
                parents[std::max(a, b)] = std::min(a, b);
            }
        }
        above = begin;
        above_end = runs.size();
    }
    int64_t n = 0;
    for (size_t run = 0, row = 0; run < runs.size(); ++run) {  // roots come before what they hold
        parents[run] = parents[run] == int64_t(run) ? n++ : parents[parents[run]];
        std::fill(out + row * width + runs[run].start, out + row * width + runs[run].stop, parents[run]);
        row += runs[run].stop == width;
    }
}

}  // namespace naspix
