// The features of Algorithm 1 at the resolution of the activations: norms, and inner products of cells.
// docs/explanation/algorithm.md derives each step; X is (C, n), n = h * w cells.
#pragma once

#include <cmath>
#include <vector>

#include "axis.h"
#include "vectors.h"

namespace naspix::NASPIX_VARIANT {

constexpr int FEW_CHANNELS = 32;  // up to here upsampling each channel costs no more than pairs of taps

// The rows of an array (n_rows, n) that may be read some floats before and after each row: rows near
// the array's ends are copied, the others are read where they lie.
class Rows {
  public:
    Rows(const float* array, int n_rows, int n, int before, int after) : pointers_(n_rows) {
        const int64_t length = int64_t(n_rows) * n;
        const auto outside = [&](int64_t row) {
            return row * n - before < 0 || (row + 1) * n + after > length;
        };
        size_t n_copies = 0;
        for (int row = 0; row < n_rows; ++row) n_copies += outside(row);
        copies_.assign(n_copies * (before + n + after), 0.0f);
        float* copy = copies_.data() + before;
        for (int row = 0; row < n_rows; ++row) {
            pointers_[row] = array + int64_t(row) * n;
            if (!outside(row)) continue;
            std::copy_n(pointers_[row], n, copy);
            pointers_[row] = copy;
            copy += before + n + after;
        }
    }
    const float* operator[](int row) const { return pointers_[row]; }
    int size() const { return int(pointers_.size()); }

  private:
    std::vector<const float*> pointers_;
    std::vector<float> copies_;
};

// D[dy][dx + 3][q] = <X_q, X_(q + (dy, dx))> for dy = 0..3, dx = -3..3, `stride` floats each; doubled
// but for (0, 0), and zero where dy = 0 and dx < 0, so that every pair of cells counts once.
// Where q + (dy, dx) is no cell of that row it is some other product, which no pixel asks for.
inline std::vector<float> neighbour_products(const Rows& channels, int height, int width, int stride) {
    std::vector<float> products(size_t(4) * OFFSETS * stride, 0.0f);
    const int n_cells = height * width;
    for (int dy = 0; dy < std::min(4, height); ++dy) {
        float* out = &products[size_t(dy) * OFFSETS * stride];
        for (int q = 0; q < n_cells - dy * width; q += LANES) {
            Floats sums[OFFSETS] = {};
            for (int c = 0; c < channels.size(); ++c) {
                const Floats own = load(channels[c] + q);
                const float* below = channels[c] + q + dy * width - 3;
                if (dy == 0) {
                    for (int d = 3; d < OFFSETS; ++d) sums[d] += own * load(below + d);
                } else {
                    for (int d = 0; d < OFFSETS; ++d) sums[d] += own * load(below + d);
                }
            }
            for (int d = 0; d < OFFSETS; ++d)
                store(out + d * stride + q, dy == 0 && d == 3 ? sums[d] : sums[d] + sums[d]);
        }
    }
    return products;
}

// The squared norms of the upsampled activation, (H, stride): along x at low resolution, then down.
inline void squared_norms_by_pairs(const Rows& channels, const Axis& y, const Axis& x, float* norms) {
    const int height = y.n_cells, width = x.n_cells, n_stride = padded(height * width) + LANES;
    const int stride = x.n_blocks * LANES;
    const auto products = neighbour_products(channels, height, width, n_stride);
    const size_t next_dy = size_t(OFFSETS) * n_stride;
    std::vector<float> across(size_t(height) * 4 * stride);  // [cell row][dy][pixel]
    for (int row = 0; row < height; ++row)
        for (int b = 0; b < x.n_blocks; ++b) {
            Floats sums[4] = {};
            for (int d = 0; d < OFFSETS; ++d) {
                const int pairs = b * OFFSETS + d;
                const float* from = &products[size_t(d) * n_stride + row * width + x.pair_first[pairs]];
                const float* weights = x.pair_weights.data() + x.pair_start[pairs];
                for (int i = 0; i < x.pair_count[pairs]; ++i) {
                    const Floats weight = load(weights + i * LANES);
                    for (int dy = 0; dy < 4; ++dy) sums[dy] += weight * from[i + dy * next_dy];
                }
            }
            for (int dy = 0; dy < 4; ++dy) store(&across[(size_t(row) * 4 + dy) * stride + b * LANES], sums[dy]);
        }
    for (int row = 0; row < y.n_pixels; ++row) {
        const float* taps = &y.weights[size_t(row) * y.stride];
        const float* from = &across[size_t(y.first[row]) * 4 * stride];
        float* out = norms + size_t(row) * stride;
        for (int b = 0; b < stride; b += LANES) {
            Floats total = {};
            for (int i = 0; i < y.width; ++i)
                for (int dy = 0; i + dy < y.width; ++dy)
                    total += taps[i] * taps[i + dy] * load(from + (size_t(i) * 4 + dy) * stride + b);
            store(out + b, total);
        }
    }
}

// One map (h, w), rows `row_stride` floats apart, to pixels along x: (h, stride).
NASPIX_INLINE void upsample_across(const float* map, int height, int row_stride, const Axis& x, float* out) {
    for (int row = 0; row < height; ++row, map += row_stride)
        for (int b = 0; b < x.n_blocks; ++b, out += LANES) {
            const float* cells = map + x.block_first[b];
            const float* weights = x.block_weights.data() + x.block_start[b];
            Floats total = {};
            for (int i = 0; i < x.block_count[b]; ++i) total += load(weights + i * LANES) * cells[i];
            store(out, total);
        }
}

// The same norms by upsampling every channel: for few channels, and no digits are lost.
inline void squared_norms_by_channels(const Rows& channels, const Axis& y, const Axis& x, float* norms) {
    const int stride = x.n_blocks * LANES;
    std::vector<float> across(size_t(y.n_cells) * stride);
    std::fill_n(norms, size_t(y.n_pixels) * stride, 0.0f);
    for (int c = 0; c < channels.size(); ++c) {
        upsample_across(channels[c], y.n_cells, x.n_cells, x, across.data());
        for (int row = 0; row < y.n_pixels; ++row) {
            const float* taps = &y.weights[size_t(row) * y.stride];
            const float* from = &across[size_t(y.first[row]) * stride];
            float* out = norms + size_t(row) * stride;
            for (int b = 0; b < stride; b += LANES) {
                Floats value = {};
                for (int i = 0; i < y.width; ++i) value += taps[i] * load(from + size_t(i) * stride + b);
                store(out + b, load(out + b) + value * value);
            }
        }
    }
}

// Lines 10 and 11 of Algorithm 1: what each upsampled vector is multiplied by, (H, W). Returns whether
// all norms are finite.
inline bool scales(const float* activation, int n_channels, const Axis& y, const Axis& x, float line_11,
                   bool normalize, float* out) {
    const int stride = x.n_blocks * LANES, reach = 3 * x.n_cells + 3 + LANES;
    const Rows channels(activation, n_channels, y.n_cells * x.n_cells, 4, reach);
    std::vector<float> norms(size_t(y.n_pixels) * stride);
    if (n_channels <= FEW_CHANNELS) {
        squared_norms_by_channels(channels, y, x, norms.data());
    } else {
        squared_norms_by_pairs(channels, y, x, norms.data());
    }
    float total = 0;
    for (int row = 0; row < y.n_pixels; ++row, out += x.n_pixels) {
        const float* norm = &norms[size_t(row) * stride];
        for (int i = 0; i < x.n_pixels; ++i) total += norm[i];
        for (int i = 0; i < x.n_pixels; ++i)  // a vector of zeros has no direction: its feature is zero
            out[i] = !normalize ? line_11 : norm[i] > 0 ? line_11 / std::sqrt(norm[i]) : 0.0f;
    }
    return std::isfinite(total);
}

// out += or = X^T X for an array of rows (C, n): (n, stride), by blocks of 6 x 16 in registers.
inline void gram(const Rows& rows, int n, int stride, float* out, bool add) {
    constexpr int HIGH = 6, WIDE = 2 * LANES;
    for (int i = 0; i < n; i += HIGH)
        for (int j = i / WIDE * WIDE; j < n; j += WIDE) {
            Floats sums[HIGH][2] = {};
            for (int c = 0; c < rows.size(); ++c) {
                const float* row = rows[c];
                const Floats left = load(row + j), right = load(row + j + LANES);
                for (int h = 0; h < HIGH; ++h) {
                    sums[h][0] += left * row[i + h];
                    sums[h][1] += right * row[i + h];
                }
            }
            for (int h = 0; h < HIGH && i + h < n; ++h)
                for (int k = 0; k < WIDE && j + k < n; ++k) {
                    const float value = sums[h][k / LANES][k % LANES];
                    float& here = out[size_t(i + h) * stride + j + k];
                    here = add ? here + value : value;
                }
        }
    for (int i = 0; i < n; ++i)
        for (int j = 0; j < i; ++j) out[size_t(i) * stride + j] = out[size_t(j) * stride + i];
}

}  // namespace naspix::NASPIX_VARIANT
