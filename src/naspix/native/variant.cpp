// NAS for one image. Compiled once for every machine, and once more for those with AVX2 and FMA.
#include <numeric>

#include "interface.h"
#include "pooling.h"
#include "starts.h"

namespace naspix::NASPIX_VARIANT {

// Renames clusters by size, the largest first; equal ones by their first pixel.
static void write_in_canonical_order(const Frame& frame, const Labels& labels, int64_t* out) {
    const int n_clusters = int(labels.sizes.size());
    std::vector<int64_t> first(n_clusters, -1), ranks(n_clusters);
    int64_t pixel = 0;
    int unseen = n_clusters;
    for (int row = 0; row < frame.height && unseen; ++row)
        for (int i = 0; i < frame.width && unseen; ++i, ++pixel) {
            int64_t& place = first[labels.of[size_t(row) * frame.stride + i]];
            if (place >= 0) continue;
            place = pixel;
            --unseen;
        }
    std::vector<int> order(n_clusters);
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(), [&](int a, int b) {
        return labels.sizes[a] != labels.sizes[b] ? labels.sizes[a] > labels.sizes[b] : first[a] < first[b];
    });
    for (int rank = 0; rank < n_clusters; ++rank) ranks[order[rank]] = rank;
    for (int row = 0; row < frame.height; ++row)
        for (int i = 0; i < frame.width; ++i) *out++ = ranks[labels.of[size_t(row) * frame.stride + i]];
}

// Centres given as vectors (K, D): <X_q, c> and -|c|^2 / 2.
static Centers given_centers(const Cells& cells, const float* vectors, int n_clusters) {
    int n_dims = 0;
    for (const auto& level : cells.levels) n_dims += level->n_channels;
    Centers centers{std::vector<float>(size_t(n_clusters) * cells.n, 0.0f), std::vector<float>(n_clusters)};
    for (int k = 0; k < n_clusters; ++k) {
        const float* vector = vectors + size_t(k) * n_dims;
        double norm = 0;
        for (int d = 0; d < n_dims; ++d) norm += double(vector[d]) * vector[d];
        centers.offsets[k] = float(-0.5 * norm);
        for (const auto& level : cells.levels) {
            float* out = &centers.products[size_t(k) * cells.n + level->start];
            for (int c = 0; c < level->n_channels; ++c)
                for (int q = 0; q < level->n_cells; ++q) out[q] += vector[c] * level->channels[c][q];
            vector += level->n_channels;
        }
    }
    return centers;
}

static bool cluster(const ClusteringGiven& given, int64_t image, int64_t* labels_out) {
    const int height = int(given.height), width = int(given.width), n_clusters = int(given.n_clusters);
    Cells cells;
    for (int64_t l = 0; l < given.n_levels; ++l) {
        const LevelGiven& level = given.levels[l];
        cells.add(level.activations + image * level.n_channels * level.height * level.width,
                  int(level.n_channels), int(level.height), int(level.width));
    }
    const auto frame_of = [&](int which, int side) {
        Frame frame((height + side - 1) / side, (width + side - 1) / side);
        for (int64_t l = 0; l < given.n_levels; ++l) {
            const LevelGiven& level = given.levels[l];
            frame.add(level.axes[which][0], level.axes[which][1],
                      level.scales + image * given.height * given.width, height, width, side);
        }
        return frame;
    };
    Centers centers;
    Labels labels;
    const float stride = float(given.long_stride);
    if (given.init) {
        int64_t n_dims = 0;
        for (int64_t l = 0; l < given.n_levels; ++l) n_dims += given.levels[l].n_channels;
        centers = given_centers(cells, given.init + image * n_clusters * n_dims, n_clusters);
    } else {
        if (!best_start(cells, frame_of(1, int(given.large)), n_clusters, int(given.n_init),
                        int(given.n_trials), given.draws, centers))
            return false;
        if (given.small && !lloyd(cells, frame_of(2, int(given.small)), centers, labels, given.tile_tol,
                                  int(given.tile_max_iter), stride))
            return false;
    }
    const Frame frame = frame_of(0, 1);
    if (!lloyd(cells, frame, centers, labels, given.tol, int(given.max_iter), stride)) return false;
    write_in_canonical_order(frame, labels, labels_out + image * given.height * given.width);
    return true;
}

}  // namespace naspix::NASPIX_VARIANT

namespace naspix {
#define NASPIX_JOIN2(a, b) a##b
#define NASPIX_JOIN(a, b) NASPIX_JOIN2(a, b)
const Variant NASPIX_JOIN(NASPIX_VARIANT, _variant) = {NASPIX_VARIANT::scales, NASPIX_VARIANT::cluster,
                                                            NASPIX_VARIANT::pool};
}  // namespace naspix
