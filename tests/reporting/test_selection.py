"""`ae_bn.reporting.selection`: which learning rate and which snapshot, worked by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ae_bn.errors import UserError
from ae_bn.reporting.selection import best_rate, cross_fitted, expected_best, rate_scores, select

# Validation losses of one arm: seed by learning rate.
LOSSES = pd.DataFrame(
    {0.1: [1.0, 5, 5], 0.2: [2.0, 2, 9], 0.4: [3.0, 3, 1]}, index=pd.Index([1, 2, 3], name="seed")
)


@pytest.fixture
def results():
    long = LOSSES.melt(var_name="learning_rate", value_name="valid_loss", ignore_index=False)
    table = long.reset_index().assign(arm="arm", snapshot="loss")
    table["test_loss"] = 10 * table["valid_loss"]
    other = table.assign(snapshot="last", test_loss=0)
    reference = pd.DataFrame({"arm": ["raw"], "seed": [1], "test_loss": [7.0]})
    return pd.concat([table, other, reference], ignore_index=True)


def test_the_rate_of_a_seed_is_chosen_on_the_other_seeds():
    """Without seed 1 the means are 5, 5.5, 2; without 2: 3, 5.5, 2; without 3: 3, 2, 3.

    The standard error of .4 is .667 and that of .2 is 2.33, so without seed 3 all rates are ties.
    """
    assert cross_fitted(-LOSSES.to_numpy()).tolist() == [2, 2, 0]


def test_rates_within_one_standard_error_of_the_best_are_ties():
    """The best rate is the last, with a standard error of .1 / sqrt(3) = .058."""
    best = np.array([0.5, 0.6, 0.7])
    for gap, chosen in ((0.05, 0), (0.06, 1)):
        scores = np.column_stack([np.full(3, 0.6 - gap), np.full(3, 0.6 - 0.057), best])
        frame = pd.DataFrame(scores, columns=[0.1, 0.2, 0.4])
        assert best_rate(frame)[0] == frame.columns[chosen]


def test_one_row_per_arm_and_seed(results):
    shown = select(results, "loss", "valid_loss")
    by_seed = shown[shown["arm"] == "arm"].set_index("seed")["test_loss"]
    assert by_seed.to_dict() == {1: 30, 2: 30, 3: 50}
    assert "raw" in set(shown["arm"])  # references have no learning rate and no snapshot
    assert select(results, "loss", 0.1)["test_loss"].tolist() == [10, 50, 50, 7]
    assert select(results, "last", 0.1)["test_loss"].tolist() == [0, 0, 0, 7]
    with pytest.raises(UserError, match="valid_loss"):
        select(results, "loss", "valid_los")


def test_a_candidate_that_a_seed_lacks_is_not_chosen_for_it(results):
    """Rate .4 is the best on the other seeds, but seed 1 has no such run."""
    rows = results[(results["snapshot"] == "loss")]
    rows = rows[~((rows["seed"] == 1) & (rows["learning_rate"] == 0.4))]
    shown = select(rows, "loss", "valid_loss")
    assert shown["seed"].tolist().count(1) == 1
    assert shown.set_index("seed").loc[1, "learning_rate"] != 0.4


def test_one_seed_alone_chooses_for_itself():
    assert cross_fitted(-LOSSES.to_numpy()[2:]).tolist() == [2]


def test_a_diverged_run_counts_as_the_worst():
    scores = -LOSSES.to_numpy()
    scores[2, 2] = -np.inf
    assert cross_fitted(scores)[0] == 0  # means 5, 5.5 and infinity
    everything = np.full((3, 2), -np.inf)
    assert cross_fitted(everything).tolist() == [0, 0, 0]


def test_an_end_of_the_grid_that_wins_alone_is_seen(results):
    rows = results[results["snapshot"] == "loss"]
    [scores] = rate_scores(rows, "valid_loss").values()
    assert best_rate(scores) == (0.4, True)  # means 11/3, 13/3, 7/3 with a standard error of .667
    assert best_rate(scores.rename(columns={0.4: 0.15}).sort_index(axis=1)) == (
        0.15,
        False,
    )
    tied = scores.assign(later=scores[0.4] - 0.1).set_axis([0.1, 0.2, 0.4, 0.8], axis=1)
    assert best_rate(tied) == (0.4, False)
    assert best_rate(scores[[0.4]]) == (0.4, False)


def test_the_expected_best_of_k_rates():
    scores, values = -LOSSES.to_numpy(), 10 * LOSSES.to_numpy()[..., None]
    one = expected_best(scores, values, 1)[:, 0]
    np.testing.assert_allclose(one, [20, 100 / 3, 50])
    # Two draws of three rates: the best is drawn with 5/9, the second is the best with 3/9.
    two = expected_best(scores, values, 2)[0, 0]
    np.testing.assert_allclose(two, (5 * 10 + 3 * 20 + 1 * 30) / 9)
    many = expected_best(scores, values, 1000)[:, 0]
    np.testing.assert_allclose(many, [10, 20, 10], rtol=1e-6)
