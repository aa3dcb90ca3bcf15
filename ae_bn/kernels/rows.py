"""Selected rows of a matrix."""

from __future__ import annotations

from ae_bn.kernels.kernel import Kernel


class TakeRows(Kernel):
    """out = W[rows].

    It has no gradient, because training updates ``out`` (`ae_bn.kernels.updates.RowsUpdate`).

    Inputs
        W (n, m); rows (k,), int32
    Outputs
        out (k, m)
    """

    file = "take_rows.cpp"
    signature = "(n,m),(k)->(k,m)"
