// Lloyd's iterations on a frame (pixels, or tiles of them), with centres held at the resolution of the
// activations. Vectors are held as coefficients or products: one number a cell of each level, (K, N).
#pragma once

#include <limits>
#include <memory>

#include "features.h"

namespace naspix::NASPIX_VARIANT {

constexpr size_t MOST_INTERPOLATED = 4 << 20;  // floats: clusters are scored in groups above

// One level of one image: phi(p) = scale(p) * X U[p].
struct Level {
    int n_channels, height, width, n_cells;
    int start;  // of its cells among those of all levels, each level padded to whole vectors
    Rows channels;
    std::vector<float> products;  // X^T X, (n_cells, stride), where it is cheaper than X itself
    int stride;

    Level(const float* activation, int channels_, int height_, int width_, int start_)
        : n_channels(channels_), height(height_), width(width_), n_cells(height_ * width_), start(start_),
          channels(activation, channels_, n_cells, 0, 3 * LANES), stride(padded(n_cells)) {
        if (n_cells > 256 || n_cells > 2 * n_channels) return;
        products.assign(size_t(n_cells) * stride + LANES, 0.0f);
        gram(channels, n_cells, stride, products.data(), false);
    }
};

struct Cells {
    std::vector<std::unique_ptr<Level>> levels;
    int n = 0;  // of all levels, each padded

    void add(const float* activation, int n_channels, int height, int width) {
        levels.push_back(std::make_unique<Level>(activation, n_channels, height, width, n));
        n += padded(height * width) + LANES;
    }
};

// A frame: pixels, or tiles of them, and how each level is upsampled to it.
struct Frame {
    int height, width, n_blocks, stride;
    struct Upsampled {
        const Axis *y, *x;
        std::vector<float> scales;  // (height, stride), zeros at the end of each row
    };
    std::vector<Upsampled> levels;

    Frame(int height_, int width_)
        : height(height_), width(width_), n_blocks(padded(width_) / LANES), stride(padded(width_)) {}
    int n_pixels() const { return height * width; }

    // Tiles of side x side pixels of `scales` (rows, columns); their means.
    void add(const Axis* y, const Axis* x, const float* scales, int rows, int columns, int side) {
        levels.push_back({y, x, std::vector<float>(size_t(height) * stride, 0.0f)});
        for (int i = 0; i < height; ++i) {
            float* out = &levels.back().scales[size_t(i) * stride];
            const int high = std::min(rows - i * side, side);
            for (int r = 0; r < high; ++r) {
                const float* row = scales + size_t(i * side + r) * columns;
                if (side == 1) {
                    std::copy_n(row, width, out);
                } else {
                    for (int j = 0; j < width; ++j) {
                        const int end = std::min(columns, (j + 1) * side);
                        for (int c = j * side; c < end; ++c) out[j] += row[c];
                    }
                }
            }
            if (side == 1) continue;
            for (int j = 0; j < width; ++j) out[j] /= float(high * std::min(columns - j * side, side));
        }
    }
};

struct Labels {
    std::vector<int32_t> of;  // (height, stride); 0 beyond the frame
    std::vector<int64_t> sizes;
};

// The products of vectors that coefficients stand for: X^T X r, level by level. Both are (K, cells.n).
inline void products_of(const Cells& cells, int n_clusters, const float* coefficients, float* products) {
    for (const auto& each : cells.levels) {
        const Level& level = *each;
        in_chunks(n_clusters, [&](auto m, int first) {
            constexpr int M = m;
            const float* r[M];
            float* out[M];
            for (int k = 0; k < M; ++k) {
                r[k] = coefficients + size_t(first + k) * cells.n + level.start;
                out[k] = products + size_t(first + k) * cells.n + level.start;
            }
            if (!level.products.empty()) {
                for (int j = 0; j < level.n_cells; j += LANES) {
                    Floats sums[M] = {};
                    for (int q = 0; q < level.n_cells; ++q) {
                        const Floats row = load(&level.products[size_t(q) * level.stride + j]);
                        for (int k = 0; k < M; ++k) sums[k] += row * r[k][q];
                    }
                    for (int k = 0; k < M; ++k) store(out[k] + j, sums[k]);
                }
                return;
            }
            for (int k = 0; k < M; ++k) std::fill_n(out[k], padded(level.n_cells), 0.0f);
            for (int c = 0; c < level.n_channels; ++c) {
                const float* row = level.channels[c];
                Floats dots[M] = {};  // coefficients are zero beyond the last cell
                for (int j = 0; j < level.n_cells; j += LANES) {
                    const Floats values = load(row + j);
                    for (int k = 0; k < M; ++k) dots[k] += values * load(r[k] + j);
                }
                float vector[M];
                for (int k = 0; k < M; ++k) vector[k] = sum(dots[k]);
                for (int j = 0; j < level.n_cells; j += LANES) {
                    const Floats values = load(row + j);
                    for (int k = 0; k < M; ++k) store(out[k] + j, load(out[k] + j) + values * vector[k]);
                }
            }
        });
    }
}

inline double dot(const Cells& cells, const float* left, const float* right) {
    double total = 0;
    for (const auto& level : cells.levels)
        for (int q = level->start; q < level->start + level->n_cells; ++q) total += double(left[q]) * right[q];
    return total;
}

// K centres: a pixel's score is <phi(p), c> - |c|^2 / 2.
struct Centers {
    std::vector<float> products;  // (K, cells.n): <X_q, c>
    std::vector<float> offsets;   // (K,): -|c|^2 / 2
};

// Sums over clusters as coefficients: sum of scale(p) U[p] over the pixels of each, (K, cells.n).
class Sums {
  public:
    Sums(const Cells& cells, const Frame& frame, int n_clusters)
        : cells_(cells), frame_(frame), n_clusters_(n_clusters), of_(size_t(n_clusters) * cells.n) {}

    void collect(const Labels& labels) {
        std::fill(of_.begin(), of_.end(), 0.0);
        std::vector<float> rows;
        std::vector<int> present, stamps(n_clusters_, -1);
        for (size_t l = 0; l < cells_.levels.size(); ++l) {
            const Axis &y = *frame_.levels[l].y, &x = *frame_.levels[l].x;
            const int length = padded(x.n_cells) + x.stride;
            rows.assign(size_t(n_clusters_) * length, 0.0f);
            std::fill(stamps.begin(), stamps.end(), -1);
            for (int row = 0; row < frame_.height; ++row) {
                const int32_t* label = &labels.of[size_t(row) * frame_.stride];
                const float* scale = &frame_.levels[l].scales[size_t(row) * frame_.stride];
                present.clear();
                if (x.stride == 4) {
                    across<true>(x, label, scale, length, row, rows.data(), stamps, present);
                } else {
                    across<false>(x, label, scale, length, row, rows.data(), stamps, present);
                }
                const float* taps = &y.weights[size_t(row) * y.stride];
                for (const int k : present) {
                    float* sums = &rows[size_t(k) * length];
                    double* out = &of_[size_t(k) * cells_.n + cells_.levels[l]->start + y.first[row] * x.n_cells];
                    for (int m = 0; m < y.width; ++m, out += x.n_cells)
                        for (int q = 0; q < x.n_cells; ++q) out[q] += double(taps[m] * sums[q]);
                    std::fill_n(sums, length, 0.0f);
                }
            }
        }
    }

    void move(int row, int column, int from, int to) {
        for (size_t l = 0; l < cells_.levels.size(); ++l) {
            const Axis &y = *frame_.levels[l].y, &x = *frame_.levels[l].x;
            const float scale = frame_.levels[l].scales[size_t(row) * frame_.stride + column];
            const float *down = &y.weights[size_t(row) * y.stride], *along = &x.weights[size_t(column) * x.stride];
            const size_t start = cells_.levels[l]->start + size_t(y.first[row]) * x.n_cells + x.first[column];
            double *less = &of_[size_t(from) * cells_.n + start], *more = &of_[size_t(to) * cells_.n + start];
            for (int m = 0; m < y.width; ++m, less += x.n_cells, more += x.n_cells)
                for (int i = 0; i < x.width; ++i) {
                    const double part = double(scale * down[m] * along[i]);
                    less[i] -= part;
                    more[i] += part;
                }
        }
    }

    // The means, or the centres that lie `stride` times as far from those before.
    Centers centers(const Labels& labels, const Centers* before, float stride) const {
        const int n = cells_.n;
        std::vector<float> means(of_.size(), 0.0f);
        for (int k = 0; k < n_clusters_; ++k)
            for (const auto& level : cells_.levels)
                for (int q = level->start; q < level->start + level->n_cells; ++q)
                    means[size_t(k) * n + q] = float(of_[size_t(k) * n + q] / double(labels.sizes[k]));
        Centers moved{std::vector<float>(of_.size()), std::vector<float>(n_clusters_)};
        products_of(cells_, n_clusters_, means.data(), moved.products.data());
        for (int k = 0; k < n_clusters_; ++k) {
            const float* mean = &means[size_t(k) * n];
            float* products = &moved.products[size_t(k) * n];
            double offset = -0.5 * dot(cells_, mean, products);
            if (before && stride != 1.0f) {
                const float* former = &before->products[size_t(k) * n];
                const double s = stride, crossed = dot(cells_, mean, former);
                offset = s * s * offset - s * (1 - s) * crossed + (1 - s) * (1 - s) * before->offsets[k];
                for (int q = 0; q < n; ++q) products[q] = former[q] + stride * (products[q] - former[q]);
            }
            moved.offsets[k] = float(offset);
        }
        return moved;
    }

  private:
    const Cells& cells_;
    const Frame& frame_;
    const int n_clusters_;
    std::vector<double> of_;

    // One row of pixels onto cells, cluster by cluster; sums stay in registers while neither changes.
    template <bool FOUR>
    NASPIX_INLINE void across(const Axis& x, const int32_t* labels, const float* scales, int length, int row,
                              float* rows, std::vector<int>& stamps, std::vector<int>& present) {
        const int quads = FOUR ? 1 : x.stride / 4;
        const auto flush = [&](int column, const Quad& total) {
            float* out = rows + size_t(labels[column]) * length + x.first[column];
            Quad sum;
            std::memcpy(&sum, out, sizeof sum);
            sum += total;
            std::memcpy(out, &sum, sizeof sum);
        };
        Quad total = {};
        for (int i = 0; i < frame_.width; ++i) {
            if (stamps[labels[i]] != row) {
                stamps[labels[i]] = row;
                present.push_back(labels[i]);
            }
            const float* weights = &x.weights[size_t(i) * x.stride];
            if (FOUR) {
                Quad taps;
                std::memcpy(&taps, weights, sizeof taps);
                total += scales[i] * taps;
                if (i + 1 == frame_.width || labels[i + 1] != labels[i] || x.first[i + 1] != x.first[i]) {
                    flush(i, total);
                    total = Quad{};
                }
            } else {
                float* out = rows + size_t(labels[i]) * length + x.first[i];
                for (int j = 0; j < 4 * quads; ++j) out[j] += scales[i] * weights[j];
            }
        }
    }
};

// A pixel that changed cluster: its place in the labels, and the cluster before.
using Moved = std::pair<int, int32_t>;

// Gives each pixel the cluster of highest score, the first of equal ones, and lists those that changed.
class Assignment {
  public:
    Assignment(const Cells& cells, const Frame& frame, int n_clusters) : cells_(cells), frame_(frame) {
        size_t rows = 0;
        for (const auto& level : frame.levels) rows += level.y->n_cells;
        group_ = int(std::max<size_t>(AT_ONCE, MOST_INTERPOLATED / (rows * frame.stride)) / AT_ONCE * AT_ONCE);
        group_ = std::min(group_, n_clusters);
        for (const auto& level : frame.levels)
            across_.emplace_back(size_t(level.y->n_cells) * frame.stride * group_);
        sources_.resize(frame.levels.size());
        if (group_ < n_clusters) best_.resize(size_t(frame.height) * frame.stride);
    }

    void operator()(const Centers& centers, Labels& labels, std::vector<Moved>& moved) {
        const int n_clusters = int(centers.offsets.size());
        const bool first_time = labels.of.empty();
        moved.clear();
        next_.resize(size_t(frame_.height) * frame_.stride);
        for (int first = 0; first < n_clusters; first += group_) {
            const int n = std::min(group_, n_clusters - first);
            for (size_t l = 0; l < across_.size(); ++l) interpolate(l, centers, first, n);
            for (int row = 0; row < frame_.height; ++row) score(row, centers, first, n, n_clusters);
        }
        for (int row = 0; row < frame_.height; ++row) {
            int32_t* now = &next_[size_t(row) * frame_.stride];
            std::fill(now + frame_.width, now + frame_.stride, 0);
            if (first_time) {
                for (int i = 0; i < frame_.width; ++i) ++labels.sizes[now[i]];
            } else {
                compare(row, labels, moved);
            }
        }
        labels.of.swap(next_);
    }

  private:
    struct Source {  // of one level, for one row of pixels
        const float *maps, *taps, *scales;
        int n_taps;
    };

    const Cells& cells_;
    const Frame& frame_;
    std::vector<Source> sources_;
    int group_;                               // clusters that are scored together
    std::vector<std::vector<float>> across_;  // a level: [cell row][block][cluster][8 pixels]
    std::vector<float> best_;
    std::vector<int32_t> next_;

    // The maps <X_q, c> of a group of clusters, upsampled along x.
    void interpolate(size_t l, const Centers& centers, int first_cluster, int n) {
        const Axis &y = *frame_.levels[l].y, &x = *frame_.levels[l].x;
        const float* maps = &centers.products[size_t(first_cluster) * cells_.n + cells_.levels[l]->start];
        float* out = across_[l].data();
        for (int row = 0; row < y.n_cells; ++row)
            for (int b = 0; b < frame_.n_blocks; ++b, out += size_t(n) * LANES) {
                const float* weights = x.block_weights.data() + x.block_start[b];
                const float* cells = maps + row * x.n_cells + x.block_first[b];
                in_chunks(n, [&](auto m, int k) {
                    constexpr int M = m;
                    Floats sums[M] = {};
                    for (int i = 0; i < x.block_count[b]; ++i) {
                        const Floats weight = load(weights + i * LANES);
                        for (int j = 0; j < M; ++j) sums[j] += weight * cells[size_t(k + j) * cells_.n + i];
                    }
                    for (int j = 0; j < M; ++j) store(out + size_t(k + j) * LANES, sums[j]);
                });
            }
    }

    // One row of pixels: s_k = offset_k + sum over levels of scale * sum over taps of weight * map.
    void score(int row, const Centers& centers, int first_cluster, int n, int n_clusters) {
        Source* sources = sources_.data();
        const int n_levels = int(across_.size());
        const size_t next_block = size_t(n) * LANES, next_row = next_block * frame_.n_blocks;
        for (int l = 0; l < n_levels; ++l) {
            const Axis& y = *frame_.levels[l].y;
            sources[l] = {&across_[l][y.first[row] * next_row], &y.weights[size_t(row) * y.stride],
                          &frame_.levels[l].scales[size_t(row) * frame_.stride], y.width};
        }
        const float* offsets = &centers.offsets[first_cluster];
        const bool keep = first_cluster + n < n_clusters;
        for (int b = 0; b < frame_.n_blocks; ++b) {
            const size_t here = size_t(row) * frame_.stride + b * LANES;
            Floats best = all(-std::numeric_limits<float>::infinity());
            Ints label = {};
            if (first_cluster) {
                best = load(&best_[here]);
                std::memcpy(&label, &next_[here], sizeof label);
            }
            in_chunks(n, [&](auto m, int k) {
                constexpr int M = m;
                Floats scores[M];
                for (int j = 0; j < M; ++j) scores[j] = all(offsets[k + j]);
                for (int l = 0; l < n_levels; ++l) {
                    const float* maps = sources[l].maps + b * next_block + k * LANES;
                    Floats sums[M] = {};
                    for (int t = 0; t < sources[l].n_taps; ++t, maps += next_row) {
                        const Floats tap = all(sources[l].taps[t]);
                        for (int j = 0; j < M; ++j) sums[j] += tap * load(maps + j * LANES);
                    }
                    const Floats scale = load(sources[l].scales + b * LANES);
                    for (int j = 0; j < M; ++j) scores[j] += scale * sums[j];
                }
                for (int j = 0; j < M; ++j) {
                    const Ints better = scores[j] > best;
                    best = better ? scores[j] : best;
                    label = better ? (first_cluster + k + j) - Ints{} : label;
                }
            });
            std::memcpy(&next_[here], &label, sizeof label);
            if (keep) store(&best_[here], best);
        }
    }

    void compare(int row, Labels& labels, std::vector<Moved>& moved) {
        const int start = row * frame_.stride;
        const int32_t *now = &next_[start], *before = &labels.of[start];
        for (int b = 0; b < frame_.stride; b += LANES) {
            if (!std::memcmp(now + b, before + b, sizeof(Ints))) continue;
            for (int i = b; i < b + LANES; ++i) {
                if (now[i] == before[i]) continue;
                moved.emplace_back(start + i, before[i]);
                --labels.sizes[before[i]];
                ++labels.sizes[now[i]];
            }
        }
    }
};

constexpr float PLAIN_SHARE = 0.0003f;  // as in clustering/kmeans.py
constexpr int LAST_LONG_STEP = 60;

// Iterates until at most `tol` of the pixels change cluster. Leaves the labels, and the centres that they
// were assigned to. Returns false where a cluster is left empty, which is none of this code's business.
inline bool lloyd(const Cells& cells, const Frame& frame, Centers& centers, Labels& labels, double tol,
                  int max_iter, float long_stride) {
    const int n_clusters = int(centers.offsets.size());
    const double n_pixels = frame.n_pixels();
    labels.of.clear();
    labels.sizes.assign(n_clusters, 0);
    Sums sums(cells, frame, n_clusters);
    Assignment assign(cells, frame, n_clusters);
    std::vector<Moved> moved;
    float stride = 1.0f;
    for (int step = 0;; ++step) {
        assign(centers, labels, moved);
        const double changed = double(moved.size());
        if (std::count(labels.sizes.begin(), labels.sizes.end(), 0)) return false;
        bool settled = false;
        if (step > 0) {
            settled = changed <= tol * n_pixels && (stride == 1.0f || tol >= PLAIN_SHARE);
            const bool far = changed > PLAIN_SHARE * n_pixels && step <= LAST_LONG_STEP;
            stride = far && stride == 1.0f ? long_stride : 1.0f;
        }
        if (settled || step + 1 == max_iter) return true;
        if (step == 0 || changed > n_pixels / 4) {
            sums.collect(labels);
        } else {
            for (const auto& [place, before] : moved)
                sums.move(place / frame.stride, place % frame.stride, before, labels.of[place]);
        }
        centers = sums.centers(labels, &centers, stride);
    }
}

}  // namespace naspix::NASPIX_VARIANT
