"""The base class of all kernels, which makes a Theano Op of a C++ file."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from pathlib import Path

import theano
import theano.tensor as T
from theano.gradient import DisconnectedType, grad_undefined
from theano.graph.basic import Apply
from theano.graph.op import COp

FOLDER = Path(__file__).parent


@lru_cache(maxsize=None)
def read_source(name: str) -> str:
    """Return a C++ file of this folder, with the files of this folder that it includes.

    Parameters
    ----------
    name : str
        The name of the file.
    """
    included = set()

    def read(name):
        if name in included:
            return ""
        included.add(name)
        text = FOLDER.joinpath(name).read_text(encoding="utf-8")
        return re.sub(r'^#include "(.+)"$', lambda found: read(found[1]), text, flags=re.MULTILINE)

    return read(name)


class Kernel(COp):
    """An Op with a source in C++ (with OpenMP), and no other implementation.

    Its docstring gives the formula or names the symbolic twin, see `ae_bn.kernels`.

    Attributes
    ----------
    file : str
        The name of a C++ file beside this one that defines ``void kernel(...)`` with a
        ``PyArrayObject*`` for each input, then a ``PyArrayObject**`` for each output.  It may use
        ``kernel.h``, the type ``real`` of the first output, and the definitions of `constants`.
    signature : str
        The shapes of inputs and outputs, such as ``(n,m),(m)->(n,m)``, with a letter for each size,
        as for NumPy's generalised functions.  A CSR matrix is ``(z),(z),(r)``.  The outputs have
        the dtype of the first input.
    """

    file: str
    signature: str
    perform = None  # Theano asks every Op for its computation in Python

    # For Ops without properties: with `__props__ = ()` every process would compile them again.
    def __eq__(self, other):
        return type(self) is type(other)

    def __hash__(self):
        return hash(type(self))

    def __str__(self):
        return type(self).__name__

    def shapes(self):
        """Return the letters of `signature`: a list for each input, and one for each output."""
        sides = self.signature.split("->")
        return [[re.findall(r"\w", one) for one in re.findall(r"\(.*?\)", side)] for side in sides]

    def make_node(self, *given):
        inputs = [T.as_tensor_variable(v) for v in given]
        _, outputs = self.shapes()
        types = [T.TensorType(inputs[0].dtype, [False] * len(letters)) for letters in outputs]
        return Apply(self, inputs, [each() for each in types])

    def infer_shape(self, fgraph, node, shapes):
        inputs, outputs = self.shapes()
        sizes: dict = {}
        for letters, shape in zip(inputs, shapes):
            sizes = {**dict(zip(letters, shape)), **sizes}
        return [[sizes[letter] for letter in letters] for letters in outputs]

    def connection_pattern(self, node):
        """Return True for every output of inputs that are not whole numbers."""
        return [[v.dtype.startswith("float")] * len(node.outputs) for v in node.inputs]

    def L_op(self, inputs, outputs, gradients):
        raise NotImplementedError("second derivatives: use the symbolic kernels")

    def filled(self, outputs, gradients: dict) -> list:
        """Return gradients, by the number of the input, as a list; other inputs are data."""
        node, filled = outputs[0].owner, []
        for number, connected in enumerate(self.connection_pattern(node)):
            none = DisconnectedType()()
            if any(connected):
                none = grad_undefined(self, number, node.inputs[number], "it is data")
            filled.append(gradients.get(number, none))
        return filled

    def in_place(self, fgraph, node):
        """Return the form of this kernel for a node of a compiled graph: it overwrites inputs."""
        return self.changed(inplace=True)

    def changed(self, **properties):
        """Return this kernel with some other properties."""
        return type(self)(**{**{p: getattr(self, p) for p in self.__props__}, **properties})

    def make_thunk(self, node, storage_map, compute_map, no_recycling, impl=None):
        """Return the compiled code, also in those modes of Theano that prefer Python."""
        return super().make_thunk(node, storage_map, compute_map, no_recycling, impl="c")

    def constants(self) -> str:
        """Return C++ definitions that depend on the Op's properties."""
        return ""

    def c_support_code(self, **kwargs):
        return read_source("kernel.h")

    def c_support_code_apply(self, node, name):
        real = {"float32": "float", "float64": "double"}[node.outputs[0].type.dtype]
        source = read_source(self.file)
        return f"namespace {name} {{\ntypedef {real} real;\n{self.constants()}\n{source}\n}}\n"

    def c_code(self, node, name, inputs, outputs, sub):
        arguments = ", ".join([*inputs, *(f"&{output}" for output in outputs)])
        return f"""
        try {{
            {name}::kernel({arguments});
        }} catch (const std::exception& error) {{
            PyErr_SetString(PyExc_ValueError, error.what());
            {sub["fail"]}
        }}
        """

    def c_compile_args(self, **kwargs):
        return openmp_flags()

    def c_code_cache_version(self):
        text = read_source("kernel.h") + self.constants() + read_source(self.file)
        return (hashlib.sha256(text.encode()).hexdigest(),)


class LossKernel(Kernel):
    """A loss that knows its gradients together with its value: the outputs after the first.

    Attributes
    ----------
    gradients : bool
        Whether the gradients are outputs; `ae_bn.kernels.rewrites` chooses this.
    differentiated : tuple of int
        The numbers of the inputs that the gradients are of, in the order of the outputs.
    """

    gradients = True
    differentiated: tuple

    def shapes(self):
        inputs, outputs = super().shapes()
        return inputs, outputs if self.gradients else outputs[:1]

    def in_place(self, fgraph, node):
        """Return the form without gradients if nothing uses them, else one that overwrites."""
        used = any(fgraph.clients[output] for output in node.outputs[1:])
        return super().in_place(fgraph, node) if used else self.changed(gradients=False)

    def L_op(self, inputs, outputs, gradients):
        upper, *others = gradients
        if not all(isinstance(other.type, DisconnectedType) for other in others):
            return super().L_op(inputs, outputs, gradients)  # which raises
        scaled = (upper * gradient for gradient in outputs[1:])
        return self.filled(outputs, dict(zip(self.differentiated, scaled)))


@lru_cache(maxsize=None)
def openmp_flags() -> list[str]:
    """Return the compiler's flag for OpenMP; without OpenMP none, so that there is one thread."""
    from theano.link.c.cmodule import GCC_compiler

    code = "#include <omp.h>\nint main() { return omp_get_max_threads() == 0; }"
    works = theano.config.cxx and GCC_compiler.try_compile_tmp(
        code, tmp_prefix="openmp", flags=["-fopenmp"], try_run=False
    )
    return ["-fopenmp"] if works else []
