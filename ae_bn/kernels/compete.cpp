// The k-competitive layer.  Of a document's positive units the (k + 1) / 2 largest win, of its
// negative ones the k / 2 least.  Losers become 0, and every winner gains alpha times the sum of
// the losers of its sign.

typedef std::pair<real, npy_intp> Unit;

// The units of one sign and one document: sign times value and number.
static void compete(std::vector<Unit>& units, size_t winners, real sign, real* after) {
    const size_t losers = units.size() > winners ? units.size() - winners : 0;
    if (losers) std::nth_element(units.begin(), units.begin() + losers, units.end());
    real energy = 0;
    for (size_t i = 0; i < losers; i++) energy += units[i].first;
    for (size_t i = losers; i < units.size(); i++)
        after[std::abs(units[i].second)] = sign * (units[i].first + real(alpha) * energy);
}

static void kernel(PyArrayObject* out_, PyArrayObject** after_) {
    Input<real> out(out_);
    const npy_intp n = out.rows, m = out.columns;
    real* after = output<real>(after_, {n, m});
#pragma omp parallel
    {
        FlushDenormals flush;
        std::vector<Unit> positive, negative;
        const Share share(n);
        for (npy_intp r = share.begin; r < share.end; r++) {
            const real* row = out.data + r * m;
            real* to = after + r * m;
            positive.clear(), negative.clear();
            bool numbers = true;
            for (npy_intp j = 0; j < m; j++) {
                to[j] = 0;
                numbers &= row[j] == row[j];
                // Of equal values the later unit is the larger, of negative ones the earlier.
                if (row[j] > 0) positive.emplace_back(row[j], j);
                if (row[j] < 0) negative.emplace_back(-row[j], -j);
            }
            if (numbers) {
                compete(positive, (k + 1) / 2, 1, to);
                compete(negative, k / 2, -1, to);
            } else {
                std::fill(to, to + m, std::numeric_limits<real>::quiet_NaN());
            }
        }
    }
}
