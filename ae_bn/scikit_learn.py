"""What the estimators take from scikit-learn, whose versions name some of it differently."""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array

from ae_bn.errors import UserError

try:
    from sklearn.utils.validation import validate_data
except ImportError:  # before scikit-learn 1.6 it is a method

    def validate_data(estimator, X, **options):
        return estimator._validate_data(X, **options)


DTYPES = [np.float64, np.float32]  # results have the dtype of the input, if it is one of these


class Transformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """A transformer of sparse or dense documents that keeps their dtype."""

    def __sklearn_tags__(self):
        """Return the tags for scikit-learn 1.6 and later; earlier versions call `_more_tags`."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = DTYPES
        return tags

    def _checked_codes(self, codes) -> np.ndarray:
        """Return codes, (n, n_units), as an array, or raise a UserError for another width."""
        codes = check_array(codes, dtype=DTYPES)
        if codes.shape[1] != self._n_features_out:
            raise UserError(
                f"codes of shape {codes.shape}: give codes with {self._n_features_out} units"
            )
        return codes

    def _more_tags(self):
        return {"preserves_dtype": DTYPES}
