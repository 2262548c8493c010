// Upsampling along one axis, a matrix V whose rows (pixels, or tiles of them) have few neighbouring non-zeros.
#pragma once

#include <algorithm>
#include <vector>

namespace naspix {

constexpr int BLOCK = 8;   // pixels that are computed together
constexpr int OFFSETS = 7;  // between two taps of one pixel: -3 to 3 cells

struct Axis {
    int n_pixels, n_cells;
    int n_blocks;  // of 8 pixels; the last one may end beyond the frame, where weights are zero

    // row by row: `width` weights from the cell `first` on; rows are `stride` floats, zeros at the end
    int width, stride;
    std::vector<int> first;
    std::vector<float> weights;

    // block by block: for each cell that a block sees, its weight for the 8 pixels
    std::vector<int> block_first, block_count, block_start;
    std::vector<float> block_weights;

    // block by block and offset d = -3..3: for each cell x with x and x + d in a pixel's taps, the
    // product of both weights for the 8 pixels; only where rows have at most four taps
    std::vector<int> pair_first, pair_count, pair_start;
    std::vector<float> pair_weights;

    // V is (n_pixels, n_cells), row-major.
    Axis(const float* matrix, int pixels, int cells)
        : n_pixels(pixels), n_cells(cells), n_blocks((pixels + BLOCK - 1) / BLOCK), width(1) {
        std::vector<int> last(pixels);
        first.resize(pixels);
        for (int i = 0; i < pixels; ++i) {
            const float* row = matrix + size_t(i) * cells;
            int low = 0, high = cells - 1;
            while (low < high && row[low] == 0) ++low;
            while (high > low && row[high] == 0) --high;
            first[i] = low;
            last[i] = high;
            width = std::max(width, high - low + 1);
        }
        stride = (width + 3) / 4 * 4;
        weights.assign(size_t(pixels) * stride, 0.0f);
        for (int i = 0; i < pixels; ++i) {
            first[i] = std::min(first[i], cells - width);
            std::copy_n(matrix + size_t(i) * cells + first[i], width, &weights[size_t(i) * stride]);
        }
        for (int b = 0; b < n_blocks; ++b) {
            const int begin = b * BLOCK, end = std::min(pixels, begin + BLOCK);
            const int low = *std::min_element(&first[begin], &first[begin] + (end - begin));
            const int high = *std::max_element(&last[begin], &last[begin] + (end - begin));
            block_first.push_back(low);
            block_count.push_back(high - low + 1);
            block_start.push_back(int(block_weights.size()));
            for (int x = low; x <= high; ++x)
                for (int i = begin; i < begin + BLOCK; ++i)
                    block_weights.push_back(i < end ? matrix[size_t(i) * cells + x] : 0.0f);
            if (width > 4) continue;
            for (int d = -3; d <= 3; ++d) {
                const int from = std::max(low, low - d), to = std::min(high, high - d);
                pair_first.push_back(from);
                pair_count.push_back(std::max(0, to - from + 1));
                pair_start.push_back(int(pair_weights.size()));
                for (int x = from; x <= to; ++x)
                    for (int i = begin; i < begin + BLOCK; ++i) {
                        const float* row = matrix + size_t(std::min(i, end - 1)) * cells;
                        pair_weights.push_back(i < end ? row[x] * row[x + d] : 0.0f);
                    }
            }
        }
    }
};

}  // namespace naspix
