// x ordered by words instead of documents.
#include "combine.h"

class Words {
    std::vector<int> start, document;  // of the non-zeros, sorted by word
    std::vector<real> value;

  public:
    Words(const Csr<real>& x, npy_intp n_words)  // a counting sort
        : start(n_words + 2, 0), document(x.indices.columns), value(x.indices.columns) {
        const int* column = x.indices.data;
        for (npy_intp k = 0; k < x.indices.columns; k++) start[column[k] + 2]++;
        for (npy_intp c = 0; c < n_words; c++) start[c + 2] += start[c + 1];
        for (npy_intp r = 0; r < x.rows; r++)
            for (int k = x.indptr.data[r]; k < x.indptr.data[r + 1]; k++) {
                const int to = start[column[k] + 1]++;
                document[to] = r;
                value[to] = x.data.data[k];
            }
    }

    // Puts a word's row of x^T delta into o.
    void multiply(npy_intp word, const Input<real>& delta, real* o) const {
        const int from = start[word], *documents = document.data() + from;
        auto row = [&](int k) { return delta.data + documents[k] * delta.columns; };
        combine(start[word + 1] - from, value.data() + from, row, delta.columns, o);
    }
};
