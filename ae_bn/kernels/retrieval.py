r"""The number of documents with a query's label among its k nearest, from a matrix of scores."""

from __future__ import annotations

import theano.tensor as T

from ae_bn.kernels.kernel import Kernel


class CountRelevant(Kernel):
    """Count the documents with the query's label among the k with the highest values.

    The value of a document for a query is

        value = (score + query_offset + document_offset) * query_scale * document_scale

    Of equal values at the k-th place the first documents count.  The kernel does not rank values.
    A sample of them gives a bound below the k-th value, and only the values above it are kept; if
    they are fewer than k, all values are.  The k-th of those is found by bisection: a pass that
    counts is far shorter than one that sorts, since it has no branches.

    Inputs
        scores (n_queries, n_documents), finite;
        query_offset, query_scale (n_queries,); document_offset, document_scale (n_documents,);
        query_labels (n_queries,), document_labels (n_documents,), int32;
        k (scalar), from 1 to n_documents
    Outputs
        found (n_queries,), whole numbers in the type of scores
    """

    file = "count_relevant.cpp"
    signature = "(q,d),(q),(q),(d),(d),(q),(d),()->(q)"

    def make_node(self, *given):
        *arrays, k = given
        return super().make_node(*arrays, T.cast(k, "int64"))
