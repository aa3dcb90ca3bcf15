r"""The number of documents with a query's label among its k nearest, from a matrix of scores."""

from __future__ import annotations

import numpy as np
import theano.tensor as T
from theano.graph.basic import Apply

from ae_bn.kernels.kernel import Kernel


class CountRelevant(Kernel):
    """Count the documents with the query's label among the k with the highest values.

    The value of a document for a query is

        value = (score + query_offset + document_offset) * query_scale * document_scale

    Of equal values at the k-th place the first documents count.  The kernel does not rank all
    values.  A sample of them gives a bound below the k-th value, and only the values above it are
    partitioned; if they are fewer than k, all values are.

    Inputs
        scores (n_queries, n_documents), finite;
        query_offset, query_scale (n_queries,); document_offset, document_scale (n_documents,);
        query_labels (n_queries,), document_labels (n_documents,), int32;
        k (scalar), from 1 to n_documents
    Outputs
        found (n_queries,), whole numbers in the type of scores
    """

    source = r"""
    static const int STEP = 48;  // every 48th document is in the sample
    static bool higher(real a, real b) { return a > b; }

    struct Values {
        const real *score, *offset, *scale;
        real own_offset, own_scale;
        real operator[](npy_intp i) const {
            return (score[i] + own_offset + offset[i]) * own_scale * scale[i];
        }
        // Bit j: whether value i + j, j from 0 to 7, reaches the bound.
        unsigned reaching(npy_intp i, real bound) const {
            real v[8];
            #pragma omp simd
            for (int j = 0; j < 8; j++) v[j] = (*this)[i + j];
    #ifdef __AVX__
            if (sizeof(real) == 4)
                return _mm256_movemask_ps(_mm256_cmp_ps(
                    _mm256_loadu_ps((const float*)v), _mm256_set1_ps(bound), _CMP_GE_OQ));
    #endif
            unsigned bits = 0;
            for (int j = 0; j < 8; j++) bits |= unsigned(v[j] >= bound) << j;
            return bits;
        }
    };

    // A bound that somewhat more than k of the n values reach; the lowest number for few values.
    static real bound_below(npy_intp n, npy_intp k, const Values& values, real* room) {
        const npy_intp sampled = n / STEP;
        const npy_intp place = k / STEP + 2 * std::sqrt(double(k) / STEP) + 2;
        if (place >= sampled) return std::numeric_limits<real>::lowest();
        for (npy_intp i = 0; i < sampled; i++) room[i] = values[i * STEP];
        std::nth_element(room, room + place, room + sampled, higher);
        return room[place];
    }

    // Puts the values from the bound on, and where they are, into kept and place.
    static npy_intp keep(npy_intp n, real bound, const Values& values, real* kept, int* place) {
        npy_intp count = 0, i = 0;
        for (; i + 8 <= n; i += 8)
            for (unsigned bits = values.reaching(i, bound); bits; bits &= bits - 1) {
                place[count] = i + __builtin_ctz(bits);
                kept[count] = values[place[count]];
                count++;
            }
        for (; i < n; i++)
            if (values[i] >= bound) kept[count] = values[i], place[count++] = i;
        return count;
    }

    static void kernel(PyArrayObject* scores_, PyArrayObject* query_offset_,
                       PyArrayObject* query_scale_, PyArrayObject* document_offset_,
                       PyArrayObject* document_scale_, PyArrayObject* query_labels_,
                       PyArrayObject* document_labels_, PyArrayObject* k_,
                       PyArrayObject** found_) {
        Input<real> scores(scores_), query_offset(query_offset_), query_scale(query_scale_),
            document_offset(document_offset_), document_scale(document_scale_);
        Input<int> query_labels(query_labels_), document_labels(document_labels_);
        const npy_intp n = scores.columns, k = *(npy_int64*)PyArray_DATA(k_);
        require(query_offset.columns == scores.rows && query_scale.columns == scores.rows &&
                query_labels.columns == scores.rows, "one offset, scale and label for each query");
        require(document_offset.columns == n && document_scale.columns == n &&
                document_labels.columns == n, "one offset, scale and label for each document");
        require(1 <= k && k <= n, "k must be from 1 to the number of documents");
        real* found = output<real>(found_, {scores.rows});
        std::vector<real> storage(2 * (n + 1) * most_threads());
        std::vector<int> places((n + 1) * most_threads());
        #pragma omp parallel
        {
            real *kept = storage.data() + 2 * (n + 1) * thread(), *room = kept + n + 1;
            int* place = places.data() + (n + 1) * thread();
            #pragma omp for schedule(dynamic, 8)
            for (npy_intp q = 0; q < scores.rows; q++) {
                const Values values{scores.data + q * n, document_offset.data, document_scale.data,
                                    query_offset.data[q], query_scale.data[q]};
                npy_intp count = keep(n, bound_below(n, k, values, room), values, kept, place);
                if (count < k)  // the sample misled
                    count = keep(n, std::numeric_limits<real>::lowest(), values, kept, place);
                std::copy(kept, kept + count, room);
                std::nth_element(room, room + k - 1, room + count, higher);
                const real threshold = room[k - 1];
                npy_intp above = 0, relevant = 0;
                const int *labels = document_labels.data, label = query_labels.data[q];
                for (npy_intp i = 0; i < count; i++)
                    if (kept[i] > threshold) above++, relevant += labels[place[i]] == label;
                for (npy_intp i = 0; i < count && above < k; i++)
                    if (kept[i] == threshold) above++, relevant += labels[place[i]] == label;
                found[q] = relevant;
            }
        }
    }
    """

    def make_node(self, *given):
        *inputs, k = (T.as_tensor_variable(v) for v in given)
        return Apply(self, [*inputs, T.cast(k, "int64")], [T.vector(dtype=inputs[0].dtype)])

    def perform(self, node, inputs, outputs):
        scores, offset, scale, document_offset, document_scale, own, labels, k = inputs
        values = (scores + offset[:, None] + document_offset) * scale[:, None] * document_scale
        nearest = np.argsort(-values, axis=1, kind="stable")[:, : int(k)]
        found = (labels[nearest] == own[:, None]).sum(axis=1)
        outputs[0][0] = found.astype(scores.dtype)

    def infer_shape(self, fgraph, node, shapes):
        return [shapes[1]]
