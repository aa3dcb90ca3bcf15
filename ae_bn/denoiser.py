r"""The linear denoiser: the best linear autoencoder with masking noise, in closed form.

It needs no training and no Theano (Steck, "Autoencoders that don't overfit towards the identity",
NeurIPS 2020).

The minimum
-----------
Let X, (n, n_words), be the documents and p the probability that a word of a document is set to 0.
Dropout divides the other words by 1 - p.  Let M be a matrix of these zeros and 1 / (1 - p), and let
B, (n_words, n_words), of rank k be encoder and decoder together.  The loss is

    E ||X - (M * X) B||^2 = tr G - 2 tr(B' G) + tr(B' C B),

    G = X' X,    C = E (M * X)' (M * X) = G + D,    D = p / (1 - p) diag(G),

because two different words are dropped independently of each other.  Without a limit on the rank,
the minimum is B0 = C^-1 G.  Completing the square gives

    E ||X - (M * X) B||^2 = ||L' (B - B0)||^2 + constant,    C = L L' (Cholesky),

so by the theorem of Eckart and Young the best L' B of rank k is L' B0 = L^-1 G truncated to its k
largest singular values: B = B0 V V'.  The columns of V, (n_words, k), are the right singular
vectors, that is, the eigenvectors of B0' C B0 = G C^-1 G = G B0 with the largest eigenvalues.  The
codes are X B0 V.  Their decoder V' has orthonormal rows, like that of principal components.

Few words
---------
Up to `DENSE` words, and where a large part of all eigenvectors is asked for, C is factorised and
LAPACK finds the eigenvectors of G B0.

Any number of words
-------------------
Otherwise no matrix of n_words x n_words is made.  Let Y = X D^-1/2, which is as sparse as X.
Then G = D^1/2 Y' Y D^1/2 and C = D^1/2 (I + Y' Y) D^1/2, so

    B0 = C^-1 X' X = D^-1/2 (I + Y' Y)^-1 Y' X = D^-1/2 Y' (I + Y Y')^-1 X.

The last step, from the words' space to the documents' space, is Woodbury's identity
(I + Y' Y)^-1 Y' = Y' (I + Y Y')^-1.  Since X' X D^-1/2 = X' Y,

    (G B0) v = X' Y Y' (I + Y Y')^-1 X v,

which is symmetric, because Y Y' (I + Y Y')^-1 is.  Lanczos iterations (ARPACK) find its first k
eigenvectors from such products.  Nothing is inverted either: conjugate gradients solve
(I + Y Y') x = X v by products with Y and Y', preconditioned by the diagonal of I + Y Y', which is
large for documents with many words of their own.  They take 20 to 40 iterations with p = .9, more
with a small p: the condition number is at most 1 + (1 - p) / p times the largest eigenvalue of the
cosines between the columns of X.

A word that no document has gives D a zero.  Its columns of X and Y are 0, and so are its rows of
B0 and V.
"""

from __future__ import annotations

from copy import copy
from inspect import signature

import numpy as np
from scipy.linalg import cho_factor, cho_solve, eigh
from scipy.sparse import csr_matrix, diags
from scipy.sparse.linalg import LinearOperator, cg, eigsh
from sklearn.utils.validation import check_is_fitted

from ae_bn.errors import UserError
from ae_bn.scikit_learn import DTYPES, Transformer, validate_data

DENSE = 2_000  # most words for which all eigenvectors are computed
RESIDUAL = 1e-10  # tolerance of conjugate gradients, as a share of the right side
LANCZOS = 1e-9  # tolerance of an eigenvalue, as a share of it
CG_TOLERANCE = "rtol" if "rtol" in signature(cg).parameters else "tol"  # before SciPy 1.12
NOTHING = 1e-9  # share of the largest eigenvalue up to which one is 0, up to errors of computation


def linear_denoiser(X, n_units: int, masking: float) -> tuple[np.ndarray, np.ndarray]:
    """Return encoder and decoder of the best linear denoising autoencoder of a width.

    Parameters
    ----------
    X : csr_matrix, (n, n_words)
        The documents.
    n_units : int
        The rank k, at most the number of words and of documents.
    masking : float
        The probability p, in (0, 1), that a word is set to 0.

    Returns
    -------
    encoder, decoder : ndarray of float64, (n_words, n_units) and (n_units, n_words)
        B0 V and V', the units in falling order of their eigenvalues.  The entry of V with the
        largest absolute value is positive in every unit, so signs do not depend on the way of
        solution.  Units beyond the rank of X are 0.

    Raises
    ------
    UserError
        If conjugate gradients do not converge, because masking is too close to 0 for so many words.
    """
    X = csr_matrix(X, dtype=np.float64)
    squares = np.asarray(X.multiply(X).sum(axis=0)).ravel()  # diag(G)
    few = X.shape[1] <= max(DENSE, 2 * n_units)
    solve = _by_all_eigenvectors if few else _by_iterations
    values, V, B0_V = solve(X, masking / (1 - masking) * squares, n_units)
    order = np.argsort(-values, kind="stable")
    values, V, B0_V = values[order], V[:, order], B0_V[:, order]
    largest = np.abs(V).argmax(axis=0)
    signs = np.where(V[largest, np.arange(n_units)] < 0, -1.0, 1.0)
    signs[values <= NOTHING * values[0]] = 0
    return B0_V * signs, (V * signs).T


def _by_all_eigenvectors(X, D, n_units):
    """Return the eigenvalues, V and B0 V, from dense matrices of (n_words, n_words)."""
    n_words = X.shape[1]
    G = (X.T @ X).toarray()
    # For a word that no document has, 1 makes C regular; the word's row of B0 is 0 with any number.
    C = cho_factor(G + np.diag(np.where(D > 0, D, 1)))
    B0 = cho_solve(C, G)
    values, V = eigh(G @ B0, subset_by_index=[n_words - n_units, n_words - 1])
    return values, V, B0 @ V


def _by_iterations(X, D, n_units):
    """Return the same from products of sparse matrices with vectors."""
    n_words = X.shape[1]
    if not D.any():  # Lanczos iterations have nothing to start from
        return np.zeros(n_units), *np.zeros((2, n_words, n_units))
    scale = np.divide(1, np.sqrt(D), out=np.zeros(n_words), where=D > 0)  # D^-1/2
    Y = csr_matrix(X @ diags(scale))
    Xt, Yt = csr_matrix(X.T), csr_matrix(Y.T)  # a product with rows takes 2/3 of the time
    diagonal = 1 + np.asarray(Y.multiply(Y).sum(axis=1)).ravel()
    squared = (X.shape[0], X.shape[0])
    I_YYt = LinearOperator(squared, lambda x: x + Y @ (Yt @ x), dtype=np.float64)
    preconditioner = LinearOperator(squared, lambda x: x / diagonal, dtype=np.float64)

    def solved(w):
        """Return Y' (I + Y Y')^-1 w."""
        x, failed = cg(I_YYt, w, M=preconditioner, atol=0, **{CG_TOLERANCE: RESIDUAL})
        if failed:
            raise UserError(
                "the linear denoiser does not converge: give masking closer to 1, or fewer words"
            )
        return Yt @ x

    G_B0 = LinearOperator((n_words, n_words), lambda v: Xt @ (Y @ solved(X @ v)), dtype=np.float64)
    start = scale * np.random.default_rng(0).normal(size=n_words)
    values, V = eigsh(G_B0, n_units, v0=start, tol=LANCZOS)
    B0_V = np.column_stack([scale * solved(w) for w in (X @ V).T])
    return values, V, B0_V


class LinearDenoiser(Transformer):
    """The best linear autoencoder with masking noise, in closed form.

    `fit` has one solution, so there is nothing to train, no seed and no learning rate.  It is for
    TF-IDF rows, CSR or dense, in float32 or float64 (other types become float64), and takes seconds
    to a minute and little more memory than the documents.  It needs no Theano.  `ae_bn.denoiser`
    derives the solution.

    For retrieval, scale the codes to length 1, subtract the mean of the training documents' codes,
    and take cosines.

    Parameters
    ----------
    n_components : int
        The number of units.  It is lowered to the number of words or of documents where one of
        these is smaller.
    masking : float in (0, 1)
        The probability that a word of a document is set to 0.  The closer to 1, the more a unit
        relies on many words.

    Attributes
    ----------
    encoder_ : ndarray of float64, (n_features, n_components)
        The encoder: codes are ``X @ encoder_``.
    components_ : ndarray of float64, (n_components, n_features)
        The decoder, with orthonormal rows, or rows of 0 beyond the rank of the documents.
    n_features_in_ : int
        The number of words.
    feature_names_in_ : ndarray of str, (n_features,)
        The column names of the input to `fit`, if it had any.

    Notes
    -----
    Harald Steck, "Autoencoders that don't overfit towards the identity", NeurIPS 2020.
    """

    def __init__(self, n_components=64, *, masking=0.9):
        self.n_components = n_components
        self.masking = masking

    def fit(self, X, y=None):
        """Solve for the encoder and the decoder of some documents.

        Parameters
        ----------
        X : csr_matrix or array_like, (n, n_features)
            The documents.
        y : ignored
            Present for scikit-learn's convention.

        Returns
        -------
        self

        Raises
        ------
        UserError
            If a parameter is invalid.  It is a ValueError.
        """
        k, p = self.n_components, self.masking
        if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
            raise UserError(f"n_components={k!r:.60}: give a whole number from 1")
        if not isinstance(p, (int, float, np.floating)) or not 0 < p < 1:
            raise UserError(f"masking={p!r:.60}: give a number between 0 and 1")
        X = self._documents(X, reset=True)
        with np.errstate(over="ignore", invalid="ignore"):
            finite = np.isfinite(X.astype(np.float64).power(2).sum())
        if not finite:
            raise UserError("X has values whose squares are not finite: scale it")
        self.encoder_, self.components_ = linear_denoiser(X, min(int(k), *X.shape), float(p))
        return self

    def transform(self, X):
        """Return the codes of documents.

        Parameters
        ----------
        X : csr_matrix or array_like, (n, n_features)
            The documents.

        Returns
        -------
        ndarray of the dtype of X, (n, n_components)
        """
        check_is_fitted(self)
        X = self._documents(X)
        return (X @ self.encoder_).astype(X.dtype, copy=False)

    def inverse_transform(self, X):
        """Return the reconstruction of documents from their codes.

        Parameters
        ----------
        X : array_like, (n, n_components)
            The codes.

        Returns
        -------
        ndarray of the dtype of X, (n, n_features)
        """
        check_is_fitted(self)
        X = self._checked_codes(X)
        return (X @ self.components_).astype(X.dtype, copy=False)

    def narrowed(self, n_components: int) -> LinearDenoiser:
        """Return the fitted denoiser of fewer units, which are the first of this one's."""
        narrow = copy(self).set_params(n_components=n_components)
        narrow.encoder_ = self.encoder_[:, :n_components]
        narrow.components_ = self.components_[:n_components]
        return narrow

    @property
    def _n_features_out(self):
        return len(self.components_)

    def _documents(self, X, reset=False):
        return csr_matrix(validate_data(self, X, accept_sparse="csr", dtype=DTYPES, reset=reset))
