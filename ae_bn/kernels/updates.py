"""A step of an optimiser on one parameter, which updates parameter and state in one pass."""

from __future__ import annotations

import numpy as np
import theano.tensor as T
from theano.graph.basic import Apply

from ae_bn.kernels.kernel import Kernel
from ae_bn.kernels.projection import WORDS, checked_csr

# The equations of `ae_bn.model.optimizers` for a single number.  p is the parameter, d its gradient
# and rate the learning rate; STATE has the names of the state.  They are valid C++ and, with sqrt,
# also valid Python, which `Update.perform` runs on arrays.
RULES = {
    "sgd": """
        p = p - rate * d;
    """,
    "nesterov": """
        v = momentum * v - rate * d;
        p = p + momentum * v - rate * d;
    """,
    "adam": """
        m = beta1 * m + (1 - beta1) * d;
        v = beta2 * v + (1 - beta2) * (d * d);
        p = p - rate * correction1 * m / (sqrt(v) * correction2 + epsilon);
    """,
}
STATE = {"sgd": "", "nesterov": "v", "adam": "mv"}


class Update(Kernel):
    """The new parameter and the new state, by a rule of `RULES`.

    Inputs
        rate (scalar); t (scalar), the number of this step, from 1; d, p and the state, all of
        the same shape
    Outputs
        the new p and the new state

    Parameters
    ----------
    rule : str
        The name of the optimiser, a key of `RULES`.
    hyperparameters : tuple of (str, float)
        The names and values of the rule's constants.
    inplace : bool
        Whether the outputs overwrite p and the state; `ae_bn.kernels.rewrites` chooses this.
    """

    __props__ = ("rule", "hyperparameters", "inplace")
    gradient = ["d"]  # names of the inputs that give the gradient

    def __init__(self, rule, hyperparameters, inplace=False):
        self.rule, self.hyperparameters, self.inplace = rule, hyperparameters, inplace
        if inplace:
            first = 2 + len(self.gradient)
            self.destroy_map = {i: [first + i] for i in range(1 + len(STATE[rule]))}

    def in_place(self, fgraph, node):
        """Return the form that overwrites p and the state."""
        return type(self)(self.rule, self.hyperparameters, inplace=True)

    @property
    def source(self):
        """The C++ code: the part that all updates share, then the loop of this class."""
        names = ["p", *STATE[self.rule]]
        each = "".join
        return f"""
    static inline void step({each(f"real& {name}, " for name in names)}real d, real rate,
                            real correction1, real correction2) {{
        {each(f"const real {name} = {value!r};" for name, value in self.hyperparameters)}
        using std::sqrt;
        {RULES[self.rule]}
    }}

    // The array to write to: the input itself, or the output's storage.
    static real* target(PyArrayObject* in, PyArrayObject** out) {{
        if (inplace) return overwrite<real>(in, out);
        return output<real>(out, std::vector<npy_intp>(PyArray_DIMS(in),
                                                       PyArray_DIMS(in) + PyArray_NDIM(in)));
    }}

    #define STEP(i, d) {{ \\
        {each(f"real {name}_i = {name}_in.data[i]; " for name in names)} \\
        step({each(f"{name}_i, " for name in names)}d, rate, correction1, correction2); \\
        {each(f"{name}[i] = {name}_i; " for name in names)} \\
    }}

    static void kernel(PyArrayObject* rate_, PyArrayObject* t_,
                       {each(f"PyArrayObject* {name}_, " for name in self.gradient)}
                       {each(f"PyArrayObject* {name}_, " for name in names)}
                       {", ".join(f"PyArrayObject** {name}_out" for name in names)}) {{
        const real rate = *(real*)PyArray_DATA(rate_);
        const double t = *(real*)PyArray_DATA(t_);
        const real correction1 = 1 / (1 - std::pow(beta1, t)),
                   correction2 = 1 / std::sqrt(1 - std::pow(beta2, t));
        {each(f"Input<real> {name}_in({name}_);" for name in names)}
        {
            each(
                f'require(PyArray_SAMESHAPE(p_, {name}_), "p and state must be of one shape");'
                for name in names[1:]
            )
        }
        {each(f"real* {name} = target({name}_, {name}_out);" for name in names)}
        {self.loop}
    }}
    """

    loop = r"""
        Input<real> d(d_);
        require(PyArray_SAMESHAPE(p_, d_), "p and d must be of one shape");
        const npy_intp size = PyArray_SIZE(d_);
        #pragma omp parallel if (size > 10000)
        {
            FlushDenormals flush;
            const Share share(size, 16);
            #pragma omp simd
            for (npy_intp i = share.begin; i < share.end; i++) STEP(i, d.data[i])
        }
    """

    def constants(self):
        decays = dict(self.hyperparameters)
        return (
            f"static const bool inplace = {int(self.inplace)};\n"
            f"static const double beta1 = {decays.get('beta1', 0)!r}, "
            f"beta2 = {decays.get('beta2', 0)!r};"
        )

    def make_node(self, *given):
        inputs = [T.as_tensor_variable(v) for v in given]
        return Apply(self, inputs, [v.type() for v in inputs[2 + len(self.gradient) :]])

    def perform(self, node, inputs, outputs):
        rate, t, d, *values = inputs
        decays = dict(self.hyperparameters)
        names = ["p", *STATE[self.rule]]
        scope = dict(
            zip(names, values),
            d=d,
            rate=rate,
            sqrt=np.sqrt,
            **decays,
            correction1=1 / (1 - decays.get("beta1", 0) ** float(t)),
            correction2=1 / np.sqrt(1 - decays.get("beta2", 0) ** float(t)),
        )
        exec("\n".join(line.strip() for line in RULES[self.rule].splitlines()), scope)
        for name, value, output in zip(names, values, outputs):
            if self.inplace:
                value[...] = scope[name]
                output[0] = value
            else:
                output[0] = np.asarray(scope[name], dtype=value.dtype)

    def infer_shape(self, fgraph, node, shapes):
        return shapes[2 + len(self.gradient) :]


class RowsUpdate(Update):
    """`Update` of some rows; the other rows and their state do not change.

    Inputs
        as for `Update`, but instead of d: rows (k,), int32, which differ from each other, and
        d (k, m).  p and state are (n, m).  Or d is (k,), and p and state are (n,).
    Outputs
        the new p and the new state
    """

    gradient = ["rows", "d"]

    @property
    def loop(self):
        copies = "".join(
            f"if (!inplace) std::copy_n({name}_in.data, size, {name});"
            for name in ["p", *STATE[self.rule]]
        )
        return f"""
        Input<int> rows(rows_);
        Input<real> d(d_);
        const npy_intp n_rows = PyArray_DIM(p_, 0), size = PyArray_SIZE(p_);
        const npy_intp width = PyArray_NDIM(p_) == 2 ? p_in.columns : 1;
        require(PyArray_NDIM(d_) == PyArray_NDIM(p_) && PyArray_DIM(d_, 0) == rows.columns
                && PyArray_SIZE(d_) == rows.columns * width,
                "d must have a row of p for each of rows");
        bool in_range = true;
        for (npy_intp k = 0; k < rows.columns; k++)
            in_range &= rows.data[k] >= 0 && rows.data[k] < n_rows;
        require(in_range, "row out of range");
        {copies}
        #pragma omp parallel if (rows.columns * width > 10000)
        {{
            FlushDenormals flush;
            const Share share(rows.columns);
            for (npy_intp k = share.begin; k < share.end; k++) {{
                const npy_intp to = rows.data[k] * width;
                #pragma omp simd
                for (npy_intp j = 0; j < width; j++) STEP(to + j, d.data[k * width + j])
            }}
        }}
        """

    def perform(self, node, inputs, outputs):
        rate, t, rows, d, *values = inputs
        if len(d) != len(rows) or not ((rows >= 0) & (rows < len(values[0]))).all():
            raise ValueError("d must have a row of p for each of rows")
        parts = [[None] for _ in values]
        Update(self.rule, self.hyperparameters).perform(
            node, [rate, t, d, *(value[rows] for value in values)], parts
        )
        for value, (part,), output in zip(values, parts, outputs):
            output[0] = value if self.inplace else value.copy()
            output[0][rows] = part


class ProjectionUpdate(Update):
    """`Update` of W in x W, which uses each row of the gradient x^T delta as soon as it is formed.

    Inputs
        as for `Update`, but instead of d: data, indices, indptr, which are x, CSR, (n, n_words),
        as for `ae_bn.kernels.projection.Project`; delta (n, m).  p and state are (n_words, m).
    Outputs
        the new p and the new state
    """

    gradient = ["data", "indices", "indptr", "delta"]
    loop = r"""
        Input<real> delta(delta_);
        const npy_intp n_words = p_in.rows, n_units = p_in.columns;
        const Csr<real> x(data_, indices_, indptr_, n_words);
        require(x.rows == delta.rows, "x and delta must have the same number of rows");
        require(delta.columns == n_units, "delta must have as many columns as W");
        const Words x_by_word(x, n_words);
        #pragma omp parallel
        {
            FlushDenormals flush;
            std::vector<real> row(n_units);
            real* d = row.data();
            #pragma omp for schedule(dynamic, 64)
            for (npy_intp word = 0; word < n_words; word++) {
                x_by_word.multiply(word, delta, d);
                #pragma omp simd
                for (npy_intp j = 0; j < n_units; j++) STEP(word * n_units + j, d[j])
            }
        }
    """

    @property
    def source(self):
        return WORDS + super().source

    def perform(self, node, inputs, outputs):
        rate, t, data, indices, indptr, delta, W = inputs[:7]
        d = checked_csr(data, indices, indptr, len(W)).T @ delta
        super().perform(node, [rate, t, d, *inputs[6:]], outputs)
