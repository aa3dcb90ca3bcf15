"""What earlier seeds predicted for fresh ones, and what the fresh seeds gave.

The experiment ``fresh_seeds`` trains the arms of the first screen again, on seeds that were not
used before.  ``results/fresh_seeds/predictions.csv`` holds what was predicted before they ran, so
that no later change of the earlier runs can move it.  With mean x of an effect over n earlier
seeds, the mean over m = 5 fresh seeds was predicted to lie in

    x +- t(k) s sqrt(1/n + 1/m),

an interval that holds it with probability .95 if all seeds are drawn alike.  Two or three seeds
give no reliable deviation, so s pools all effects on the metric in a corpus: s^2 is the sum of
squares around their means, divided by its k degrees of freedom.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from ae_bn.reporting.effects import EFFECTS, OWN_EPOCH, signed_sum

FRESH = "fresh_seeds"  # the experiment


class Prediction(NamedTuple):
    """An effect with one loss: predicted from earlier seeds, and seen on fresh ones."""

    corpus: str
    effect: str
    dropout: str  # that all its arms share, or an empty string
    loss: str
    metric: str
    seeds: int  # earlier ones
    mean: float  # over the earlier seeds
    low: float  # the limits between which the mean over the fresh seeds was predicted
    high: float
    fresh: np.ndarray  # (m,), the effect by fresh seed
    earlier: np.ndarray  # by earlier seed, as these runs are now, at the fresh ones' learning rate

    @property
    def holds(self) -> bool:
        """Whether the mean over the fresh seeds lies between the limits."""
        return bool(self.low <= self.fresh.mean() <= self.high)

    @property
    def all_seeds(self) -> pd.DataFrame:
        """The effect of all seeds, for `ae_bn.reporting.estimates.estimate`."""
        values = np.concatenate([self.earlier, self.fresh])
        setting = f"{self.corpus}, {self.loss}"
        return pd.DataFrame({"setting": setting, "seed": range(len(values)), "value": values})


def predictions(written: Path, fresh: pd.DataFrame, effects: pd.DataFrame) -> list[Prediction]:
    """Return the written predictions whose arms were trained, and what the fresh seeds gave.

    Parameters
    ----------
    written : Path
        The predictions: a CSV with the columns ``corpus``, ``effect``, ``dropout``, ``loss``,
        ``metric``, ``seeds``, ``mean``, ``low`` and ``high``.
    fresh : DataFrame
        The runs of the experiment `FRESH`.  Seeds that lack an arm are left out.
    effects : DataFrame
        The effects of the earlier seeds, see `ae_bn.reporting.effects.all_effects`.
    """
    fresh = fresh.assign(log_loss=100 * np.log(fresh["test_loss"]))
    found = []
    for row in pd.read_csv(written, keep_default_na=False).to_dict("records"):
        rows = fresh[
            fresh["corpus"].eq(row["corpus"])
            & fresh["loss"].eq(row["loss"])
            & fresh["snapshot"].eq(OWN_EPOCH[row["metric"]])
        ]
        table = rows.pivot(index="seed", columns=["bn", "dropout"], values=row["metric"])
        plus, minus = EFFECTS[row["effect"]].arms(row["dropout"])
        if {*plus, *minus} <= set(table):
            value = signed_sum(table, plus, minus)
            [rate] = rows["learning_rate"].unique()  # one for each loss
            is_same = {
                "effect": row["effect"],
                "metric": row["metric"],
                "setting": f"{row['corpus']}, {row['loss']}",  # see `all_seeds`
                "dropout": row["dropout"],
                "rate": str(rate),
                "epoch": OWN_EPOCH[row["metric"]],
            }
            earlier = effects.loc[(effects[list(is_same)] == is_same).all(axis=1), "value"]
            seeds = {"fresh": value.dropna().to_numpy(), "earlier": earlier.to_numpy()}
            found.append(Prediction(**row, **seeds))
    return found
