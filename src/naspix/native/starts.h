// k-means++ starts on large tiles of pixels, and a few of Lloyd's iterations on the products of all pairs.
#pragma once

#include "lloyd.h"

namespace naspix::NASPIX_VARIANT {

constexpr int START_STEPS = 6;  // as in clustering/kmeans.py

// Applies U from the left to an array (cells, n), rows of `length` floats: (tiles, n).
inline std::vector<float> upsample_rows(const Axis& y, const Axis& x, const float* array, int length) {
    std::vector<float> across(size_t(y.n_cells) * x.n_pixels * length, 0.0f);
    const auto add = [length](float* out, const float* from, float weight) {
        if (weight == 0) return;
        for (int i = 0; i < length; i += LANES) store(out + i, load(out + i) + weight * load(from + i));
    };
    for (int row = 0; row < y.n_cells; ++row)
        for (int j = 0; j < x.n_pixels; ++j)
            for (int m = 0; m < x.width; ++m)
                add(&across[(size_t(row) * x.n_pixels + j) * length],
                    array + (size_t(row) * x.n_cells + x.first[j] + m) * length, x.weights[size_t(j) * x.stride + m]);
    std::vector<float> out(size_t(y.n_pixels) * x.n_pixels * length, 0.0f);
    for (int i = 0; i < y.n_pixels; ++i)
        for (int m = 0; m < y.width; ++m)
            for (int j = 0; j < x.n_pixels; ++j)
                add(&out[(size_t(i) * x.n_pixels + j) * length],
                    &across[(size_t(y.first[i] + m) * x.n_pixels + j) * length], y.weights[size_t(i) * y.stride + m]);
    return out;
}

// The inner products of all pairs of tiles, (P, stride).
inline std::vector<float> tile_products(const Cells& cells, const Frame& tiles, int stride) {
    const int n = tiles.n_pixels();
    std::vector<float> products(size_t(n) * stride + LANES, 0.0f), scales(stride);
    for (size_t l = 0; l < cells.levels.size(); ++l) {
        const Level& level = *cells.levels[l];
        const auto& [y, x, rows] = tiles.levels[l];
        for (int p = 0; p < n; ++p) scales[p] = rows[size_t(p / tiles.width) * tiles.stride + p % tiles.width];
        if (!level.products.empty()) {  // U (U G)^T
            const auto half = upsample_rows(*y, *x, level.products.data(), level.stride);
            std::vector<float> turned(size_t(level.n_cells) * stride, 0.0f);
            for (int p = 0; p < n; ++p)
                for (int q = 0; q < level.n_cells; ++q)
                    turned[size_t(q) * stride + p] = half[size_t(p) * level.stride + q] * scales[p];
            const auto whole = upsample_rows(*y, *x, turned.data(), stride);
            for (int p = 0; p < n; ++p)
                for (int q = 0; q < n; ++q) products[size_t(p) * stride + q] += whole[size_t(p) * stride + q] * scales[p];
            continue;
        }
        // every channel upsampled to the tiles; (C, P), then the products of its columns
        const int across_stride = x->n_blocks * LANES;
        std::vector<float> across(size_t(y->n_cells) * across_stride);
        std::vector<float> phi(size_t(level.n_channels) * n + 4 * LANES);
        for (int c = 0; c < level.n_channels; ++c) {
            upsample_across(level.channels[c], y->n_cells, x->n_cells, *x, across.data());
            float* out = &phi[size_t(c) * n];
            for (int i = 0; i < tiles.height; ++i) {
                const float* taps = &y->weights[size_t(i) * y->stride];
                for (int b = 0; b < across_stride; b += LANES) {
                    Floats total = {};
                    for (int m = 0; m < y->width; ++m)
                        total += taps[m] * load(&across[size_t(y->first[i] + m) * across_stride + b]);
                    store(out + i * tiles.width + b, total * load(&rows[size_t(i) * tiles.stride + b]));
                }
            }
        }
        gram(Rows(phi.data(), level.n_channels, n, 0, 3 * LANES), n, stride, products.data(), true);
    }
    return products;
}

// Greedy k-means++ from the random numbers (K, n_init, n_trials) of one start; the seeds of its clusters.
inline std::vector<int> plus_plus(const std::vector<float>& distances, int n, int stride, int n_clusters,
                                  const float* draws, int next_draw, int n_trials) {
    std::vector<int> seeds{std::min(n - 1, int(draws[0] * float(n)))};
    std::vector<float> closest(&distances[size_t(seeds[0]) * stride], &distances[size_t(seeds[0]) * stride] + n);
    std::vector<float> cumulated(n), with(n), best(n);
    for (int k = 1; k < n_clusters; ++k) {
        double total = 0;
        for (int p = 0; p < n; ++p) cumulated[p] = float(total += closest[p]);
        float least = std::numeric_limits<float>::infinity();
        int chosen = 0;
        for (int t = 0; t < n_trials; ++t) {
            const float target = draws[size_t(k) * next_draw + t] * cumulated[n - 1];
            const int candidate =
                std::min(n - 1, int(std::lower_bound(cumulated.begin(), cumulated.end(), target) - cumulated.begin()));
            const float* distance = &distances[size_t(candidate) * stride];
            float sum = 0;
            for (int p = 0; p < n; ++p) sum += with[p] = std::min(closest[p], distance[p]);
            if (sum < least) {
                least = sum;
                chosen = candidate;
                best.swap(with);
            }
        }
        seeds.push_back(chosen);
        closest.swap(best);
    }
    return seeds;
}

// k-means from one start on the products of all pairs: labels of the tiles, and how good it is.
inline double run_start(const std::vector<float>& products, const std::vector<int>& seeds, int n, int stride,
                        std::vector<int>& labels, std::vector<int64_t>& sizes) {
    const int n_clusters = int(seeds.size());
    std::vector<float> sums(size_t(n_clusters) * stride), best(stride), norms(n_clusters), factors(n_clusters, 1.0f);
    std::vector<int> next(n);
    const auto assign = [&](bool from_seeds) {
        std::fill(best.begin(), best.end(), -std::numeric_limits<float>::infinity());
        for (int k = 0; k < n_clusters; ++k) {
            const float* row = from_seeds ? &products[size_t(seeds[k]) * stride] : &sums[size_t(k) * stride];
            const float factor = factors[k], offset = norms[k] / 2;
            for (int p = 0; p < n; ++p) {
                const float score = row[p] * factor - offset;
                next[p] = score > best[p] ? k : next[p];
                best[p] = score > best[p] ? score : best[p];
            }
        }
    };
    for (int k = 0; k < n_clusters; ++k) norms[k] = products[size_t(seeds[k]) * stride + seeds[k]];
    assign(true);
    labels.assign(n, -1);
    sizes.assign(n_clusters, 0);
    for (int step = 0;; ++step) {
        for (int p = 0; p < n; ++p) {  // only what changed moves from one sum to the other
            if (next[p] == labels[p]) continue;
            const float* row = &products[size_t(p) * stride];
            float* more = &sums[size_t(next[p]) * stride];
            for (int q = 0; q < n; ++q) more[q] += row[q];
            ++sizes[next[p]];
            if (labels[p] >= 0) {
                float* less = &sums[size_t(labels[p]) * stride];
                for (int q = 0; q < n; ++q) less[q] -= row[q];
                --sizes[labels[p]];
            }
            labels[p] = next[p];
        }
        if (step == START_STEPS) break;
        std::vector<double> inside(n_clusters, 0.0);
        for (int p = 0; p < n; ++p) inside[labels[p]] += sums[size_t(labels[p]) * stride + p];
        for (int k = 0; k < n_clusters; ++k) {
            const double size = double(std::max<int64_t>(1, sizes[k]));
            factors[k] = sizes[k] ? float(1 / size) : 0.0f;
            norms[k] = float(inside[k] / (size * size));
        }
        assign(false);
    }
    double quality = 0;
    for (int k = 0; k < n_clusters; ++k) quality += double(norms[k]) * double(sizes[k]);
    return quality;
}

// The centres of the best of several starts on the tiles, false where one of its clusters is empty.
inline bool best_start(const Cells& cells, const Frame& tiles, int n_clusters, int n_init, int n_trials,
                       const float* draws, Centers& centers) {
    const int n = tiles.n_pixels(), stride = padded(n);
    const auto products = tile_products(cells, tiles, stride);
    std::vector<float> distances(products.size());
    for (int p = 0; p < n; ++p) {
        const float* row = &products[size_t(p) * stride];
        for (int q = 0; q < n; ++q)
            distances[size_t(p) * stride + q] =
                std::max(0.0f, (row[p] + products[size_t(q) * stride + q]) - 2 * row[q]);
    }
    double best = -std::numeric_limits<double>::infinity();
    std::vector<int> labels, chosen;
    Labels found;
    std::vector<int64_t> sizes;
    for (int start = 0; start < n_init; ++start) {
        const auto seeds = plus_plus(distances, n, stride, n_clusters, draws + size_t(start) * n_trials,
                                     n_init * n_trials, n_trials);
        const double quality = run_start(products, seeds, n, stride, labels, sizes);
        if (quality <= best) continue;
        best = quality;
        chosen.swap(labels);
        found.sizes = sizes;
    }
    if (std::count(found.sizes.begin(), found.sizes.end(), 0)) return false;
    found.of.assign(size_t(tiles.height) * tiles.stride, 0);
    for (int p = 0; p < n; ++p) found.of[size_t(p / tiles.width) * tiles.stride + p % tiles.width] = chosen[p];
    Sums sums(cells, tiles, n_clusters);
    sums.collect(found);
    centers = sums.centers(found, nullptr, 1.0f);
    return true;
}

}  // namespace naspix::NASPIX_VARIANT
