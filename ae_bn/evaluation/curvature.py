r"""How curved the training loss is: eigenvalues of its Hessian, by products with vectors.

All parameters (W, a, b of every layer) make one vector :math:`\theta`.  The loss is the mean over
fixed minibatches, nothing dropped, with one of two kinds of statistics: ``batch``, those of each
minibatch, through which derivatives pass; ``population``, constants of the whole training part.
With H the Hessian of that loss, what is measured is

.. math::

    \tilde H = D H D, \qquad D = \mathrm{diag}(d), \qquad                            (1)

the Hessian in the coordinates :math:`D^{-1} \theta`.  H itself would compare nothing where Batch
Normalization (BN) makes weights scale-free.  For a column :math:`w_j` of W that feeds a normalised
unit, and any s > 0,

.. math::

    h_j = \frac{w_j^T x - \mathrm{mean}_j}{\sqrt{\mathrm{var}_j + \epsilon}}
        = \frac{(w_j / s)^T x - \mathrm{mean}_j / s}
               {\sqrt{\mathrm{var}_j / s^2 + \epsilon / s^2}}                         (2)

is the same function, so that the loss does not change with s, but H grows with :math:`s^2`.
Choosing s = ||w_j|| and :math:`d = ||w_j||` there, :math:`\tilde H` is the Hessian at weights of
unit norm: exactly of the right hand side of (2), and of a network with the same
:math:`\epsilon` as far as :math:`\mathrm{var}_j \gg \epsilon`.

There are two choices of d, 1 wherever it is not a norm:

- ``unit``: :math:`||w_j||` for the columns that feed a normalised unit.  Weights without BN are
  taken as they are, as an optimiser meets them.  Without BN :math:`\tilde H = H`.
- ``relative``: :math:`||w_j||` for every column, BN or not: the curvature along relative changes of
  the weights (filter normalisation: Li et al. 2018, arXiv 1712.09913).  Only this one compares
  arms in the same coordinates.  For units with BN both are the same.

The largest eigenvalues are those of ARPACK (`scipy.sparse.linalg.eigsh`).  The density is by
stochastic Lanczos quadrature (Ghorbani et al. 2019, arXiv 1901.10159); with half a million
parameters, a random vector or two are enough, since its variance falls with their number.

At 2,000 words and 128 units, a product over 500 documents takes about 0.05 s of one core, without
BN less than with BN everywhere (0.1 s), and one measurement 200 to 300 products.
"""

from __future__ import annotations

import numpy as np
import theano
import theano.tensor as T
from scipy.linalg import eigh_tridiagonal
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import LinearOperator, eigsh

from ae_bn.config import Config, CurvatureConfig, ModelConfig
from ae_bn.data.corpus import batches
from ae_bn.errors import UserError
from ae_bn.model.autoencoder import Autoencoder

SEED = 0  # of documents and of starting vectors, the same for every run
TOLERANCE = 1e-2  # of ARPACK's residual; the error of an eigenvalue is of its square
KINDS = ("batch", "population")

# Eigenvalues are shown on one grid for all runs, even in asinh(x / (2 LINEAR)) / log(10): close
# to linear within +-LINEAR, in powers of ten beyond.  Lanczos tells nothing smaller apart when the
# largest is some hundreds: after k steps it resolves about the spectrum's range / k^2.
LINEAR = 0.1
WIDTH = 0.1  # standard deviation of the broadening, in powers of ten
POINTS = np.linspace(-6, 6, 241)  # in powers of ten: up to an eigenvalue of 1e5
GRID = 2 * LINEAR * np.sinh(np.log(10) * POINTS)


def check(config: Config, n_train: int) -> None:
    """Raise a UserError if the curvature that a config asks for cannot be measured.

    Parameters
    ----------
    config : Config
    n_train : int
        Number of training documents.
    """
    settings = config.evaluation.curvature
    if settings is None:
        return
    if config.model.tied:
        raise UserError(
            "evaluation.curvature: weights that are tied have no norm of their own; "
            "set model.tied to false"
        )
    if config.model.batch_norm.gradient != "full":
        raise UserError(
            "evaluation.curvature: no loss has the gradient of "
            f"model.batch_norm.gradient {config.model.batch_norm.gradient}; set it to full"
        )
    if config.model.batch_norm.over is not None:
        raise UserError(
            "evaluation.curvature: only units normalised over documents are free of scale; "
            "set model.batch_norm.over to null"
        )
    if not config.training.batch_size <= settings.documents <= n_train:
        raise UserError(
            f"evaluation.curvature.documents: {settings.documents} is not between "
            f"training.batch_size, {config.training.batch_size}, and the {n_train} documents to "
            "train on"
        )


class Hessian:
    """Products of the Hessian with vectors, for autoencoders of one architecture.

    The graph is that of `ae_bn.model.autoencoder.forward` in its symbolic stages: the gradient of
    the gradient's product with the vector (Pearlmutter 1994).

    Parameters
    ----------
    config : ModelConfig
    n_words : int
    """

    def __init__(self, config: ModelConfig, n_words: int):
        config = config.model_copy(update={"sampling": None})  # of the loss, not its estimate
        self.twin = Autoencoder(config, "sgd", n_words, "symbolic")
        self._compiled = {}  # kind of statistics: function

    @property
    def uses_statistics(self) -> bool:
        """Whether the two kinds of statistics differ at all."""
        return any(layer.batch_normalization.needs_statistics for layer in self.twin.layers)

    def scales(self, relative: bool) -> np.ndarray:
        """Return d of equation (1), (n_parameters,), at the present parameters.

        Parameters
        ----------
        relative : bool
            The norm of every column of W, not only of those that feed a normalised unit.
        """
        normalised = {
            layer.projection.W: layer.batch_normalization.normalize for layer in self.twin.layers
        }
        scales = []
        for parameter in self.twin.parameters:
            values = parameter.get_value().astype(np.float64)
            scale = np.ones_like(values)
            if normalised.get(parameter, False) or (relative and parameter in normalised):
                scale *= np.sqrt((values**2).sum(axis=0))
            scales.append(scale.ravel())
        return np.concatenate(scales)

    def operator(self, X: csr_matrix, batch_size: int, kind: str, scales) -> LinearOperator:
        """Return D H D of equation (1) of the mean loss over minibatches, in float64.

        Products of single minibatches are in floatX.

        Parameters
        ----------
        X : csr_matrix, (n, n_words), floatX
            Cut into minibatches in the order of its rows; a remainder is left out.
        batch_size : int
        kind : {"batch", "population"}
        scales : ndarray, (n_parameters,)
        """
        function, minibatches = self._function(kind), list(batches(X, batch_size))
        shapes = [parameter.get_value(borrow=True).shape for parameter in self.twin.parameters]
        ends = np.cumsum([np.prod(shape, dtype=int) for shape in shapes])[:-1]

        def product(v):
            v = (scales * v.ravel()).astype(theano.config.floatX)
            parts = [part.reshape(shape) for part, shape in zip(np.split(v, ends), shapes)]
            total = 0.0
            for batch in minibatches:
                products = function(batch.data, batch.indices, batch.indptr, *parts)
                total = total + np.concatenate([p.ravel() for p in products]).astype(np.float64)
            return scales * total / len(minibatches)

        return LinearOperator((len(scales), len(scales)), matvec=product, dtype=np.float64)

    def _function(self, kind):
        if kind not in self._compiled:
            twin = self.twin
            loss, inputs = twin.clean_loss(population=kind == "population")
            gradients = T.grad(loss, twin.parameters)
            vectors = [p.type() for p in twin.parameters]
            slope = sum((d * v).sum() for d, v in zip(gradients, vectors))
            products = T.grad(
                slope, twin.parameters, disconnected_inputs="ignore", return_disconnected="zero"
            )
            self._compiled[kind] = theano.function([*inputs, *vectors], products, name=kind)
        return self._compiled[kind]


def measure(
    hessian: Hessian, state: dict, X: csr_matrix, batch_size: int, settings: CurvatureConfig
) -> dict | None:
    """Measure the curvature of the loss at one state of an autoencoder.

    Parameters
    ----------
    hessian : Hessian
    state : dict of str to ndarray
        What `ae_bn.model.autoencoder.Autoencoder.get_state` returned.
    X : csr_matrix, (n_train, n_words), floatX
        The documents are a fixed random choice from these rows.
    batch_size : int
    settings : CurvatureConfig

    Returns
    -------
    dict or None
        ``eigenvalues``: {"unit" or "relative": {kind of statistics: the largest, falling}};
        ``density``: {kind of statistics: see `density`}, of the ``relative`` Hessian.  None if
        the state has no finite Hessian.
    """
    hessian.twin.set_state(state)
    rows = np.random.default_rng(SEED).permutation(X.shape[0])[: settings.documents]
    X, unit, relative = X[rows], hessian.scales(relative=False), hessian.scales(relative=True)
    eigenvalues, densities = {"unit": {}, "relative": {}}, {}
    for kind in KINDS if hessian.uses_statistics else KINDS[:1]:
        operator = hessian.operator(X, batch_size, kind, relative)
        if not np.isfinite(operator @ np.ones(len(relative))).all():
            return None
        largest = top_eigenvalues(operator, settings.eigenvalues)
        eigenvalues["relative"][kind] = eigenvalues["unit"][kind] = largest
        if not np.array_equal(unit, relative):
            unit_operator = hessian.operator(X, batch_size, kind, unit)
            eigenvalues["unit"][kind] = top_eigenvalues(unit_operator, settings.eigenvalues)
        densities[kind] = density(operator, settings.draws, settings.steps).tolist()
    if not hessian.uses_statistics:
        for values in (*eigenvalues.values(), densities):
            values["population"] = values["batch"]
    return {"eigenvalues": eigenvalues, "density": densities}


def top_eigenvalues(operator: LinearOperator, k: int) -> list[float]:
    """Return the k largest eigenvalues of a symmetric operator, the largest first."""
    v = np.random.default_rng(SEED).normal(size=operator.shape[0])
    values = eigsh(operator, k, which="LA", v0=v, tol=TOLERANCE, return_eigenvectors=False)
    return sorted(values.tolist(), reverse=True)


def density(operator: LinearOperator, draws: int, steps: int) -> np.ndarray:
    """Return the density of the eigenvalues of a symmetric operator on `GRID`.

    It is the mean over random unit vectors of the quadrature of Gauss and Lanczos, a weight at
    each eigenvalue of the tridiagonal matrix, broadened to a Gaussian of standard deviation
    `WIDTH` (Ghorbani et al. 2019, equations 4 to 7).

    Parameters
    ----------
    operator : LinearOperator
    draws : int
        Number of random vectors.
    steps : int
        Of Lanczos, a product each.

    Returns
    -------
    ndarray, (len(GRID),)
        Share of the eigenvalues per power of ten; its integral over `POINTS` is 1.
    """
    rng, total = np.random.default_rng(SEED), np.zeros(len(POINTS))
    for _ in range(draws):
        values, vectors = eigh_tridiagonal(
            *lanczos(operator, rng.normal(size=operator.shape[0]), steps)
        )
        places = np.arcsinh(values / (2 * LINEAR)) / np.log(10)
        distances = (POINTS[:, None] - places) / WIDTH
        total += np.exp(-(distances**2) / 2) @ vectors[0] ** 2
    return total / (draws * WIDTH * np.sqrt(2 * np.pi))


def lanczos(operator: LinearOperator, v: np.ndarray, steps: int) -> tuple:
    """Return the tridiagonal matrix of Lanczos, with full re-orthogonalisation.

    Parameters
    ----------
    operator : LinearOperator, symmetric, (n, n)
    v : ndarray, (n,)
        The first vector.
    steps : int

    Returns
    -------
    diagonal, off_diagonal : ndarray
        Of the sizes steps and steps - 1, or smaller if the space of v is exhausted before.
    """
    steps = min(steps, len(v))
    basis = np.empty((steps, len(v)))
    basis[0] = v / np.linalg.norm(v)
    diagonal, off_diagonal = [], []
    for step in range(steps):
        w = operator @ basis[step]
        diagonal.append(basis[step] @ w)
        scale = np.linalg.norm(w)
        for _ in range(2):
            w -= basis[: step + 1].T @ (basis[: step + 1] @ w)
        norm = np.linalg.norm(w)
        if step + 1 == steps or norm <= 1e-10 * scale:
            break
        off_diagonal.append(norm)
        basis[step + 1] = w / norm
    return np.array(diagonal), np.array(off_diagonal)


def summarize(measurements: dict, best: dict | None) -> dict:
    """Return the curvature's part of a run's metrics.

    Parameters
    ----------
    measurements : dict of int to dict
        What `measure` returned after epochs, those that were asked for.
    best : dict or None
        What it returned at the best epoch, if there is one.

    Returns
    -------
    dict
        Keys of `ae_bn.evaluation.metrics.METRICS`, and ``spectra``: {name: {"x": [...], "y":
        [...]}}, the densities over `GRID` and the largest eigenvalues over epochs.
    """
    grid = [float(f"{x:.6g}") for x in GRID]
    names = {"unit": "top_eigenvalue", "relative": "relative_eigenvalue"}
    metrics, spectra = {}, {}
    labelled = {f"epoch {epoch}": measurement for epoch, measurement in measurements.items()}
    for label, measurement in {**labelled, **({"best epoch": best} if best else {})}.items():
        for kind, y in measurement["density"].items():
            spectra[f"density, {kind}, {label}"] = {"x": grid, "y": y}
    for scale, name in names.items():
        if best:
            metrics[name] = best["eigenvalues"][scale]["batch"][0]
            metrics[f"{name}_population"] = best["eigenvalues"][scale]["population"][0]
        if 0 in measurements:
            metrics[f"{name}_initial"] = measurements[0]["eigenvalues"][scale]["batch"][0]
        for kind in KINDS:
            tops = [m["eigenvalues"][scale][kind][0] for m in measurements.values()]
            title = f"{name.replace('_', ' ')}, {kind}"
            spectra[title] = {"x": list(measurements), "y": tops}
    return {**metrics, "spectra": spectra}
