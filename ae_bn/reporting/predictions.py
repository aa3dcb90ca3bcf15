"""What earlier seeds predict for fresh ones, and what the fresh seeds gave.

The experiment ``fresh_seeds`` trains the arms of the first screen again, on seeds that were not
used before.  With mean x of an effect over n earlier seeds, the mean over m fresh seeds is
predicted to lie in

    x +- t(k) s sqrt(1/n + 1/m),

an interval that holds it with probability .95 if all seeds are drawn alike.  Two or three seeds
give no reliable deviation, so s pools all effects on the metric: s^2 is the sum of squares around
their means, divided by its k degrees of freedom.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from ae_bn.reporting.effects import EFFECTS
from ae_bn.reporting.estimates import CONFIDENCE
from ae_bn.reporting.settings import HIDDEN, MASKING, NONE

FRESH = "fresh_seeds"  # the experiment
EARLIER = "20 Newsgroups"  # the name of the settings of the earlier seeds
# The epoch at which each metric is read.
EPOCHS = {"log_loss": "loss", "probe_accuracy": "accuracy", "centred_precision": "precision"}
# Effect, its dropout where it is taken at several, and metrics.
PREDICTED = [
    ("BN instead of masking", "", ["probe_accuracy", "centred_precision"]),
    ("interaction of BN and masking", "", ["probe_accuracy", "centred_precision"]),
    ("hidden dropout without BN", "", ["centred_precision"]),
    ("hidden dropout with hidden BN", "", ["centred_precision"]),
    ("interaction of BN and hidden dropout", "", ["centred_precision"]),
    ("output BN with hidden BN", NONE, list(EPOCHS)),
    ("output BN with hidden BN", MASKING, list(EPOCHS)),
]


class Prediction(NamedTuple):
    """An effect with one loss: predicted from earlier seeds, and seen on fresh ones."""

    effect: str
    dropout: str  # that all its arms share, or an empty string
    metric: str
    loss: str
    earlier: np.ndarray  # (n,), the effect by seed
    fresh: np.ndarray  # (m,), the same
    deviation: float = np.nan  # of a seed, s above
    freedom: int = 0  # degrees of freedom, k above

    @property
    def interval(self) -> tuple[float, float]:
        """The limits between which the mean over the fresh seeds is predicted."""
        error = self.deviation * np.sqrt(1 / len(self.earlier) + 1 / len(self.fresh))
        half = stats.t.ppf((1 + CONFIDENCE) / 2, self.freedom) * error
        return float(self.earlier.mean() - half), float(self.earlier.mean() + half)

    @property
    def holds(self) -> bool:
        """Whether the mean over the fresh seeds lies between the limits."""
        low, high = self.interval
        return bool(low <= self.fresh.mean() <= high)


def predictions(runs: pd.DataFrame, fresh: pd.DataFrame) -> list[Prediction]:
    """Return the predictions, at the learning rate that the fresh seeds have with each loss.

    Parameters
    ----------
    runs : DataFrame
        The runs of the settings, see `ae_bn.reporting.settings.read_blocks`.
    fresh : DataFrame
        The runs of the experiment `FRESH`.  Seeds that lack an arm are left out.
    """
    found = []
    runs = runs[runs["name"] == EARLIER]
    fresh = fresh.assign(log_loss=100 * np.log(fresh["test_loss"]))
    for loss, seen in fresh.groupby("loss"):
        alike = runs["loss"].eq(loss) & runs["learning_rate"].isin(seen["learning_rate"])
        for effect, dropout, metrics in PREDICTED:
            about = HIDDEN if "hidden dropout" in effect else MASKING
            earlier = runs[alike & runs["about"].eq(about)]
            for metric in metrics:
                before, after = (_by_seed(t, effect, dropout, metric) for t in (earlier, seen))
                found.append(Prediction(effect, dropout, metric, str(loss), before, after))
    return [_with_deviation(one, found) for one in found]


def _with_deviation(prediction: Prediction, others: list[Prediction]) -> Prediction:
    """Return a prediction with the deviation that all effects on its metric share."""
    values = [other.earlier for other in others if other.metric == prediction.metric]
    freedom = sum(len(of_seeds) - 1 for of_seeds in values)
    squares = sum(np.square(of_seeds - of_seeds.mean()).sum() for of_seeds in values)
    return prediction._replace(deviation=float(np.sqrt(squares / freedom)), freedom=freedom)


def _by_seed(rows: pd.DataFrame, effect: str, dropout: str, metric: str) -> np.ndarray:
    """Return an effect's value for every seed that has all of its arms."""
    rows = rows[rows["snapshot"] == EPOCHS[metric]]
    table = rows.pivot(index="seed", columns=["bn", "dropout"], values=metric)
    plus, minus = EFFECTS[effect].arms(dropout)
    value = table[plus].sum(axis=1, skipna=False) - table[minus].sum(axis=1, skipna=False)
    return value.dropna().to_numpy()
