// The number of documents with the query's label among the k with the highest values,
//
//     value = (score + query_offset + document_offset) * query_scale * document_scale

static const int STEP = 48;   // every 48th document is in the sample
static const int BLOCK = 64;  // the values that are compared at a time, a bit for each

// A finite number as an integer, in the same order, and back.
typedef std::conditional<sizeof(real) == 4, npy_int32, npy_int64>::type Ordered;
typedef std::make_unsigned<Ordered>::type Distance;
static Ordered flip(Ordered bits) {  // the larger a negative number's bits, the lower it is
    return bits < 0 ? bits ^ std::numeric_limits<Ordered>::max() : bits;
}
static Ordered ordered(real value) {
    value += 0;  // -0 is equal to 0
    Ordered bits;
    std::memcpy(&bits, &value, sizeof bits);
    return flip(bits);
}
static real number(Ordered place) {
    const Ordered bits = flip(place);
    real value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

// A bound that k of n numbers exceed.  If there is none, because numbers are equal: the one
// that fewer than k exceed, and that is equal to the others up to the k-th.
static Ordered bound_above(int n, int k, const Ordered* numbers) {
    Ordered low = numbers[0], high = numbers[0];
#pragma omp simd reduction(min : low) reduction(max : high)
    for (int i = 0; i < n; i++) {
        low = std::min(low, numbers[i]);
        high = std::max(high, numbers[i]);
    }
    low--;
    while (true) {  // k or more exceed low, fewer than k exceed high
        const Ordered middle = low + Ordered((Distance(high) - Distance(low)) / 2);
        if (middle == low) return high;
        int above = 0;
#pragma omp simd reduction(+ : above)
        for (int i = 0; i < n; i++) above += numbers[i] > middle;
        if (above == k) return middle;
        (above > k ? low : high) = middle;
    }
}

struct Values {
    const real *score, *offset, *scale;
    real own_offset, own_scale;
    real operator[](npy_intp i) const {
        return (score[i] + own_offset + offset[i]) * own_scale * scale[i];
    }
};

// Bit j: whether value j of a block reaches the bound.
static npy_uint64 reaching(const real* value, real bound) {
    npy_uint64 bits = 0;
#ifdef __AVX__
    if (sizeof(real) == 4) {
        const __m256 bounds = _mm256_set1_ps(bound);
        for (int j = 0; j < BLOCK; j += 8) {
            const __m256 eight = _mm256_loadu_ps((const float*)value + j);
            const unsigned reach = _mm256_movemask_ps(_mm256_cmp_ps(eight, bounds, _CMP_GE_OQ));
            bits |= npy_uint64(reach) << j;
        }
        return bits;
    }
#endif
    for (int j = 0; j < BLOCK; j++) bits |= npy_uint64(value[j] >= bound) << j;
    return bits;
}

// A bound that somewhat more than k of the n values reach; the lowest number for few values.
static real bound_below(npy_intp n, npy_intp k, const Values& values, Ordered* room) {
    const int sampled = n / STEP, place = k / STEP + 2 * std::sqrt(double(k) / STEP) + 2;
    if (place >= sampled) return std::numeric_limits<real>::lowest();
    for (int i = 0; i < sampled; i++) room[i] = ordered(values[npy_intp(i) * STEP]);
    return number(bound_above(sampled, place, room));
}

// Puts the values from the bound on, and where they are, into kept and place.
static int keep(npy_intp n, real bound, const Values& values, Ordered* kept, int* place) {
    int count = 0;
    npy_intp i = 0;
    for (; i + BLOCK <= n; i += BLOCK) {
        real block[BLOCK];
#pragma omp simd
        for (int j = 0; j < BLOCK; j++) block[j] = values[i + j];
        for (npy_uint64 bits = reaching(block, bound); bits; bits &= bits - 1) {
            const int j = __builtin_ctzll(bits);
            place[count] = i + j;
            kept[count++] = ordered(block[j]);
        }
    }
    for (; i < n; i++)
        if (values[i] >= bound) kept[count] = ordered(values[i]), place[count++] = i;
    return count;
}

static void kernel(PyArrayObject* scores_, PyArrayObject* query_offset_,
                   PyArrayObject* query_scale_, PyArrayObject* document_offset_,
                   PyArrayObject* document_scale_, PyArrayObject* query_labels_,
                   PyArrayObject* document_labels_, PyArrayObject* k_, PyArrayObject** found_) {
    Input<real> scores(scores_), query_offset(query_offset_), query_scale(query_scale_),
        document_offset(document_offset_), document_scale(document_scale_);
    Input<int> query_labels(query_labels_), document_labels(document_labels_);
    const npy_intp n = scores.columns, k = *(npy_int64*)PyArray_DATA(k_);
    require(query_offset.columns == scores.rows && query_scale.columns == scores.rows &&
                query_labels.columns == scores.rows,
            "one offset, scale and label for each query");
    require(
        document_offset.columns == n && document_scale.columns == n && document_labels.columns == n,
        "one offset, scale and label for each document");
    require(1 <= k && k <= n, "k must be from 1 to the number of documents");
    real* found = output<real>(found_, {scores.rows});
    std::vector<Ordered> storage(n * most_threads());
    std::vector<int> places(n * most_threads());
#pragma omp parallel
    {
        Ordered* kept = storage.data() + n * thread();
        int* place = places.data() + n * thread();
#pragma omp for schedule(dynamic, 8)
        for (npy_intp q = 0; q < scores.rows; q++) {
            const Values values{scores.data + q * n, document_offset.data, document_scale.data,
                                query_offset.data[q], query_scale.data[q]};
            int count = keep(n, bound_below(n, k, values, kept), values, kept, place);
            if (count < k)  // the sample misled
                count = keep(n, std::numeric_limits<real>::lowest(), values, kept, place);
            const Ordered bound = bound_above(count, k, kept);
            const int *labels = document_labels.data, label = query_labels.data[q];
            int above = 0, relevant = 0;
            for (int i = 0; i < count; i++) {
                above += kept[i] > bound;
                relevant += (kept[i] > bound) & (labels[place[i]] == label);
            }
            for (int i = 0; i < count && above < k; i++)
                if (kept[i] == bound) above++, relevant += labels[place[i]] == label;
            found[q] = relevant;
        }
    }
}
