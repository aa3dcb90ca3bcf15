"""One step of an optimiser on one parameter: the parameter and all state in one pass."""

from __future__ import annotations

import numpy as np
import theano.tensor as T
from theano.graph.basic import Apply

from ae_bn.kernels.kernel import Kernel

# The equations of `ae_bn.optimizers`, for one number each: p is the parameter, d its gradient,
# rate the learning rate; the state's names are in STATE.  They are valid C++ and, with
# sqrt, valid Python too: `Update.perform` runs them on arrays.
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
        p = p - rate / correction1 * m / (sqrt(v / correction2) + epsilon);
    """,
    "adadelta": """
        v = decay * v + (1 - decay) * (d * d);
        d = -sqrt(u + epsilon) / sqrt(v + epsilon) * d;
        u = decay * u + (1 - decay) * (d * d);
        p = p + rate * d;
    """,
    "rmsprop": """
        v = decay * v + (1 - decay) * (d * d);
        p = p - rate * d / (sqrt(v) + epsilon);
    """,
}
STATE = {"sgd": "", "nesterov": "v", "adam": "mv", "adadelta": "vu", "rmsprop": "v"}


class Update(Kernel):
    """The new parameter and the new state, by a rule of `RULES`.

    Inputs
        rate (scalar); t (scalar), the number of this step, from 1; d, p and the state, all of
        one shape
    Outputs
        the new p and the new state

    Parameters
    ----------
    rule : str
    hyperparameters : tuple of (str, float)
    inplace : bool
        Write p and state where they are; `ae_bn.kernels.rewrites` chooses this form.
    """

    __props__ = ("rule", "hyperparameters", "inplace")

    def in_place(self, fgraph, node):
        """Return the form that overwrites p and the state."""
        return Update(self.rule, self.hyperparameters, inplace=True)

    def __init__(self, rule, hyperparameters, inplace=False):
        self.rule, self.hyperparameters, self.inplace = rule, hyperparameters, inplace
        if inplace:
            self.destroy_map = {i: [3 + i] for i in range(1 + len(STATE[rule]))}

    @property
    def source(self):
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

    static void kernel(PyArrayObject* rate_, PyArrayObject* t_, PyArrayObject* d_,
                       {each(f"PyArrayObject* {name}_, " for name in names)}
                       {", ".join(f"PyArrayObject** {name}_out" for name in names)}) {{
        const real rate = *(real*)PyArray_DATA(rate_);
        const double t = *(real*)PyArray_DATA(t_);
        const real correction1 = 1 - std::pow(beta1, t), correction2 = 1 - std::pow(beta2, t);
        Input<real> d(d_){each(f", {name}_in({name}_)" for name in names)};
        {
            each(
                f'require(PyArray_SAMESHAPE(d_, {name}_), "p, d and state must be of one shape");'
                for name in names
            )
        }
        const npy_intp size = PyArray_SIZE(d_);
        {each(f"real* {name} = target({name}_, {name}_out);" for name in names)}
        #pragma omp parallel if (size > 10000)
        {{
            FlushDenormals flush;
            const Share share(size, 16);
            #pragma omp simd
            for (npy_intp i = share.begin; i < share.end; i++) {{
                {each(f"real {name}_i = {name}_in.data[i];" for name in names)}
                step({each(f"{name}_i, " for name in names)}d.data[i], rate, correction1,
                     correction2);
                {each(f"{name}[i] = {name}_i;" for name in names)}
            }}
        }}
    }}
    """

    def constants(self):
        decays = dict(self.hyperparameters)
        return (
            f"static const bool inplace = {int(self.inplace)};\n"
            f"static const double beta1 = {decays.get('beta1', 0)!r}, "
            f"beta2 = {decays.get('beta2', 0)!r};"
        )

    def make_node(self, *inputs):
        inputs = [T.as_tensor_variable(v) for v in inputs]
        return Apply(self, inputs, [v.type() for v in inputs[3:]])

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
            correction1=1 - decays.get("beta1", 0) ** float(t),
            correction2=1 - decays.get("beta2", 0) ** float(t),
        )
        exec("\n".join(line.strip() for line in RULES[self.rule].splitlines()), scope)
        for name, value, output in zip(names, values, outputs):
            if self.inplace:
                value[...] = scope[name]
                output[0] = value
            else:
                output[0] = np.asarray(scope[name], dtype=value.dtype)

    def infer_shape(self, fgraph, node, shapes):
        return shapes[3:]
