// mask = (draw >= rate) / (1 - rate), draws of the generator MRG31k3p:
//
//     x1, x2, x3 <- (2^22 x2 + (2^7 + 1) x3) mod (2^31 - 1), x1, x2
//     y1, y2, y3 <- (2^15 y1 + (2^15 + 1) y3) mod (2^31 - 21069), y1, y2
//     draw = ((x1 - y1) mod (2^31 - 1)) / 2^31, a difference of 0 counting as 2^31 - 1

static const unsigned M1 = 2147483647u, M2 = 2147462579u;

// From [0, 2 M) to [0, M).
static inline unsigned reduce(unsigned y, unsigned M) { return y >= M ? y - M : y; }

static void kernel(PyArrayObject* state_, PyArrayObject* rate_, PyArrayObject* values,
                   PyArrayObject** mask_, PyArrayObject** after_) {
    require(PyArray_DIM(state_, 1) == 6, "a generator's state must have 6 columns");
    Input<int> state(state_);
    const npy_intp lanes = state.rows, size = PyArray_SIZE(values);
    require(lanes > 0, "a generator must have a state");
    const real rate = *(real*)PyArray_DATA(rate_), kept = 1 / (1 - rate);
    const real unit = real(4.656612873077392578125e-10);  // 2^-31
    real* mask = output<real>(
        mask_,
        std::vector<npy_intp>(PyArray_DIMS(values), PyArray_DIMS(values) + PyArray_NDIM(values)));
    std::vector<unsigned> column[6];
    for (int c = 0; c < 6; c++) {
        column[c].resize(lanes);
        for (npy_intp i = 0; i < lanes; i++) column[c][i] = state.data[6 * i + c];
    }
    unsigned *x1 = column[0].data(), *x2 = column[1].data(), *x3 = column[2].data(),
             *y1 = column[3].data(), *y2 = column[4].data(), *y3 = column[5].data();
    for (npy_intp first = 0; first < size; first += lanes) {
        const npy_intp n = std::min(lanes, size - first);
        real* to = mask + first;
#pragma omp simd
        for (npy_intp i = 0; i < n; i++) {
            unsigned x = reduce(
                ((x2[i] & 511) << 22) + (x2[i] >> 9) + ((x3[i] & 16777215) << 7) + (x3[i] >> 24),
                M1);
            x = reduce(x + x3[i], M1);
            x3[i] = x2[i], x2[i] = x1[i], x1[i] = x;
            unsigned y = reduce(((y1[i] & 65535) << 15) + 21069 * (y1[i] >> 16), M2);
            unsigned z = reduce(((y3[i] & 65535) << 15) + 21069 * (y3[i] >> 16), M2);
            z = reduce(reduce(z + y3[i], M2) + y, M2);
            y3[i] = y2[i], y2[i] = y1[i], y1[i] = z;
            const real draw = real(int(x <= z ? x - z + M1 : x - z)) * unit;
            to[i] = draw >= rate ? kept : real(0);
        }
    }
    int* after = output<int>(after_, {lanes, 6});
    for (int c = 0; c < 6; c++)
        for (npy_intp i = 0; i < lanes; i++) after[6 * i + c] = column[c][i];
}
