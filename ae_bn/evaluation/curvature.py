r"""Curvature of the training loss: eigenvalues of its Hessian, from products with vectors.

All parameters (W, a, b of every layer) form one vector :math:`\theta`.  The loss is the mean over
fixed minibatches, with nothing dropped.  Its statistics are of one of two kinds: ``batch``, those
of each minibatch, through which derivatives pass; or ``population``, constants of the whole
training part.  With H the Hessian of this loss, this module measures

.. math::

    \tilde H = D H D, \qquad D = \mathrm{diag}(d), \qquad                            (1)

the Hessian in the coordinates :math:`D^{-1} \theta`.  H itself cannot be compared where Batch
Normalization (BN) makes weights scale-free.  For a column :math:`w_j` of W that feeds a normalised
unit, and any s > 0,

.. math::

    h_j = \frac{w_j^T x - \mathrm{mean}_j}{\sqrt{\mathrm{var}_j + \epsilon}}
        = \frac{(w_j / s)^T x - \mathrm{mean}_j / s}
               {\sqrt{\mathrm{var}_j / s^2 + \epsilon / s^2}}                         (2)

is the same function, so the loss does not change with s, but H grows with :math:`s^2`.  With
s = ||w_j|| and :math:`d = ||w_j||`, :math:`\tilde H` is the Hessian at weights of unit norm.  This
is exact for the right hand side of (2), and holds for a network with the same :math:`\epsilon` as
far as :math:`\mathrm{var}_j \gg \epsilon`.

There are two choices of d, which is 1 where it is not a norm:

- ``unit``: :math:`||w_j||` for the columns that feed a normalised unit.  Weights without BN are
  left as they are, as an optimiser sees them.  Without BN :math:`\tilde H = H`.
- ``relative``: :math:`||w_j||` for every column, with or without BN.  This is the curvature along
  relative changes of the weights (filter normalisation: Li et al. 2018, arXiv 1712.09913).  Only
  this choice compares arms in the same coordinates.  For units with BN both choices agree.

ARPACK (`scipy.sparse.linalg.eigsh`) computes the largest eigenvalues.  Stochastic Lanczos
quadrature (Ghorbani et al. 2019, arXiv 1901.10159) estimates the density.  Its variance falls with
the number of parameters, so with half a million of them one or two random vectors are enough.

At 2,000 words and 128 units, a product over 500 documents takes about 0.05 s on one core without BN
and 0.1 s with BN in all layers.  One measurement takes 200 to 300 products.
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
from ae_bn.evaluation.probes import measured, merged
from ae_bn.model.autoencoder import Autoencoder

SEED = 0  # seed of the documents and starting vectors, the same for every run
TOLERANCE = 1e-2  # ARPACK's bound of the residual; the error of an eigenvalue is of its square
KINDS = ("batch", "population")

# All runs show eigenvalues on one grid, evenly spaced in asinh(x / (2 LINEAR)) / log(10): nearly
# linear within +-LINEAR, powers of ten beyond.  With a largest eigenvalue of some hundreds, Lanczos
# resolves nothing smaller than LINEAR: after k steps, about the range of the spectrum / k^2.
LINEAR = 0.1
WIDTH = 0.1  # standard deviation of the broadening, in powers of ten
POINTS = np.linspace(-6, 6, 241)  # in powers of ten: up to an eigenvalue of 1e5
GRID = 2 * LINEAR * np.sinh(np.log(10) * POINTS)


def check(config: Config, n_train: int) -> None:
    """Raise a UserError if the curvature that a config asks for cannot be measured.

    Parameters
    ----------
    config : Config
        The settings of the run.
    n_train : int
        The number of training documents.
    """
    settings, model, bn = config.evaluation.curvature, config.model, config.model.batch_norm
    if settings is None:
        return
    of_gradient = f"model.batch_norm.gradient={bn.gradient}"
    refused = [
        (
            model.topics,
            "the loss of a topic model is random, so it has no Hessian: set model.topics to null",
        ),
        (model.tied, "tied weights have no norm of their own: set model.tied to false"),
        (bn.gradient != "full", f"no loss has the gradient of {of_gradient}: set it to full"),
        (bn.over, f"model.batch_norm.over={bn.over} keeps the scale of weights: set it to null"),
    ]
    for applies, reason in refused:
        if applies:
            raise UserError(f"evaluation.curvature: {reason}")
    if not config.training.batch_size <= settings.documents <= n_train:
        raise UserError(
            f"evaluation.curvature.documents: {settings.documents} is out of range: give a number "
            f"from training.batch_size, {config.training.batch_size}, to the number of training "
            f"documents, {n_train}"
        )


class Hessian:
    """Products of the Hessian with vectors, for autoencoders of one architecture.

    A product is the gradient of the product of the gradient with the vector (Pearlmutter 1994), on
    the graph of `ae_bn.model.autoencoder.forward` with symbolic stages.

    Parameters
    ----------
    config : ModelConfig
        The architecture; sampled reconstruction is switched off.
    n_words : int
        The number of words.
    """

    def __init__(self, config: ModelConfig, n_words: int):
        config = config.model_copy(update={"sampling": None})  # the loss, not its estimate
        self.twin = Autoencoder(config, "sgd", n_words, "symbolic")
        self._compiled = {}  # kind of statistics: function

    @property
    def uses_statistics(self) -> bool:
        """Whether the two kinds of statistics differ."""
        return any(layer.batch_normalization.needs_statistics for layer in self.twin.layers)

    def scales(self, relative: bool) -> np.ndarray:
        """Return d of equation (1), (n_parameters,), at the present parameters.

        Parameters
        ----------
        relative : bool
            Whether every column of W is scaled by its norm, or only columns that feed a normalised
            unit.
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
            The documents, cut into minibatches in the order of the rows; a remainder is left out.
        batch_size : int
            The number of documents in a minibatch.
        kind : {"batch", "population"}
            The kind of statistics.
        scales : ndarray, (n_parameters,)
            The diagonal of D, from `scales`.
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
        The products for the architecture of this autoencoder.
    state : dict of str to ndarray
        The parameters and statistics, from `ae_bn.model.autoencoder.Autoencoder.get_state`.
    X : csr_matrix, (n_train, n_words), floatX
        The training documents; a fixed random choice of them is used.
    batch_size : int
        The number of documents in a minibatch.
    settings : CurvatureConfig
        The numbers of documents, eigenvalues, random vectors and Lanczos steps.

    Returns
    -------
    dict or None
        ``eigenvalues``: {"unit" or "relative": {kind of statistics: the largest, in falling
        order}}; ``density``: {kind of statistics: see `density`}, for the ``relative`` Hessian.
        None if the state has no finite Hessian.
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
    """Return the k largest eigenvalues of a symmetric operator, in falling order."""
    v = np.random.default_rng(SEED).normal(size=operator.shape[0])
    values = eigsh(operator, k, which="LA", v0=v, tol=TOLERANCE, return_eigenvectors=False)
    return sorted(values.tolist(), reverse=True)


def density(operator: LinearOperator, draws: int, steps: int) -> np.ndarray:
    """Return the density of the eigenvalues of a symmetric operator on `GRID`.

    Gauss-Lanczos quadrature gives a weight at each eigenvalue of a tridiagonal matrix.  Each weight
    is broadened to a Gaussian of standard deviation `WIDTH`, and the density is the mean over
    random unit vectors (Ghorbani et al. 2019, equations 4 to 7).

    Parameters
    ----------
    operator : LinearOperator
        The symmetric operator.
    draws : int
        The number of random vectors.
    steps : int
        The number of Lanczos steps; each takes one product.

    Returns
    -------
    ndarray, (len(GRID),)
        The share of the eigenvalues per power of ten; its integral over `POINTS` is 1.
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
    operator : LinearOperator, (n, n)
        The symmetric operator.
    v : ndarray, (n,)
        The first vector.
    steps : int
        The largest number of steps.

    Returns
    -------
    diagonal, off_diagonal : ndarray, (steps,) and (steps - 1,)
        Both are shorter if the Krylov space of v has fewer dimensions.
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


class CurvatureMeter:
    """Measures the curvature after the epochs that a config names; an observer of training.

    Parameters
    ----------
    hessian : Hessian
        The products for the architecture of the autoencoder.
    X : csr_matrix, (n_train, n_words), floatX
        The training documents.
    batch_size : int
        The number of documents in a minibatch.
    settings : CurvatureConfig
        The epochs, of which 0 is before training, and the settings of `measure`.
    """

    def __init__(self, hessian: Hessian, X: csr_matrix, batch_size: int, settings: CurvatureConfig):
        self.hessian, self.X, self.batch_size, self.settings = hessian, X, batch_size, settings
        self.initial: dict = {}  # the measurement before training

    def start(self, autoencoder: Autoencoder) -> None:
        """Measure the initialised autoencoder, if the config asks for epoch 0."""
        autoencoder.update_population_statistics(self.X)
        if 0 in self.settings.epochs:
            self.initial = self._measured(autoencoder)

    def __call__(self, autoencoder: Autoencoder, epoch) -> dict:
        """Return the measurement after an epoch, as ``curvature``, if the config asks for it."""
        asked = epoch.epoch in self.settings.epochs
        return {"curvature": self._measured(autoencoder)} if asked else {}

    def summary(self, autoencoder: Autoencoder, progress) -> dict:
        """Return the curvature's part of a run's metrics, see `summarize`.

        Parameters
        ----------
        autoencoder : Autoencoder
            The autoencoder.
        progress : ae_bn.training.Progress
            Its training.  The kept epoch is measured here if it was not measured in training.
        """
        measurements = {0: self.initial}
        measurements.update((e.epoch, e.metrics.get("curvature")) for e in progress.history)
        measurements = {epoch: m for epoch, m in measurements.items() if m}
        reasons = [m for m in measurements.values() if "reason" in m]
        good = {epoch: m for epoch, m in measurements.items() if "reason" not in m}

        def spectra():
            best = good.get(progress.best_epoch)
            if best is None and progress.snapshots:
                autoencoder.set_state(progress.snapshots["loss"].state)
                best = self._measure(autoencoder)
            return summarize(good, best)

        return merged(*reasons, measured({"curvature": spectra}))

    def _measured(self, autoencoder):
        return measured({"curvature": lambda: self._measure(autoencoder) or {}})

    def _measure(self, autoencoder):
        state = autoencoder.get_state()
        return measure(self.hessian, state, self.X, self.batch_size, self.settings)


def summarize(measurements: dict, best: dict | None) -> dict:
    """Return the curvature's part of a run's metrics.

    Parameters
    ----------
    measurements : dict of int to dict
        The results of `measure` by epoch, for the epochs that the config names.
    best : dict or None
        The result of `measure` at the best epoch, if there is one.

    Returns
    -------
    dict
        Metrics named as in `ae_bn.evaluation.metrics.METRICS`, and ``spectra``: {name: {"x": [...],
        "y": [...]}}, which are the densities over `GRID` and the largest eigenvalues over epochs.
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
