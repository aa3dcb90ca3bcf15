"""`ae_bn.reporting.selection`: which learning rate and which snapshot, worked by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ae_bn.errors import UserError
from ae_bn.reporting.selection import (
    best_rates,
    chosen_rates,
    cross_fitted,
    expected_best,
    select,
)

# Validation losses of one arm: seed by learning rate.
LOSSES = pd.DataFrame(
    {0.1: [1.0, 5, 5], 0.2: [2.0, 2, 9], 0.4: [3.0, 3, 1]}, index=pd.Index([1, 2, 3], name="seed")
)


@pytest.fixture
def results():
    long = LOSSES.melt(var_name="learning_rate", value_name="valid_loss", ignore_index=False)
    table = long.reset_index().assign(arm="arm", snapshot="loss")
    table["valid_accuracy"] = -table["valid_loss"]
    table["test_loss"] = 10 * table["valid_loss"]
    other = table.assign(snapshot="last", test_loss=0)
    reference = pd.DataFrame({"arm": ["raw"], "seed": [1], "test_loss": [7.0]})
    return pd.concat([table, other, reference], ignore_index=True)


def test_the_rate_of_a_seed_is_chosen_on_the_other_seeds(results):
    """Without seed 1 the means are 5, 5.5, 2; without 2: 3, 5.5, 2; without 3: 3, 2, 3."""
    rows = results[results["snapshot"] == "loss"]
    for criterion in ("valid_loss", "valid_accuracy"):
        chosen = chosen_rates(rows, criterion)
        assert chosen.to_dict() == {("arm", 1): 0.4, ("arm", 2): 0.4, ("arm", 3): 0.2}


def test_one_row_per_arm_and_seed(results):
    shown = select(results, "loss", "valid_loss")
    assert shown[["arm", "seed"]].value_counts().max() == 1
    by_seed = shown[shown["arm"] == "arm"].set_index("seed")["test_loss"]
    assert by_seed.to_dict() == {1: 30, 2: 30, 3: 90}
    assert "raw" in set(shown["arm"])  # references have no learning rate and no snapshot
    assert select(results, "loss", 0.1)["test_loss"].tolist() == [10, 50, 50, 7]
    assert select(results, "last", 0.1)["test_loss"].tolist() == [0, 0, 0, 7]
    with pytest.raises(UserError, match="valid_loss"):
        select(results, "loss", "valid_los")


def test_a_candidate_may_be_a_pair(results):
    """Without seed 3 the best pair is rate .2 with a loss of 1.5 at seeds 1 and 2."""
    rows = results[results["snapshot"] == "loss"].assign(masking="none")
    masked = rows.assign(masking="masking .5", valid_loss=rows["valid_loss"] - 0.5)
    chosen = cross_fitted(pd.concat([rows, masked]), ["masking", "learning_rate"], "valid_loss")
    assert chosen["masking"].tolist() == ["masking .5"] * 3
    assert chosen["learning_rate"].tolist() == [0.4, 0.4, 0.2]
    assert chosen["seed"].tolist() == [1, 2, 3]


def test_a_candidate_that_a_seed_lacks_is_not_chosen_for_it(results):
    """Rate .4 is the best on the other seeds, but seed 1 has no such run."""
    rows = results[results["snapshot"] == "loss"]
    rows = rows[~((rows["seed"] == 1) & (rows["learning_rate"] == 0.4))]
    assert cross_fitted(rows, ["learning_rate"], "valid_loss")["seed"].tolist() == [1, 2, 3]
    shown = select(rows, "loss", "valid_loss")
    assert shown["learning_rate"].tolist()[0] != 0.4 and len(shown) == 3


def test_one_seed_alone_chooses_for_itself(results):
    rows = results[(results["snapshot"] == "loss") & (results["seed"] == 3)]
    assert chosen_rates(rows, "valid_loss").tolist() == [0.4]


def test_a_diverged_run_counts_as_the_worst(results):
    rows = results[results["snapshot"] == "loss"].copy()
    rows.loc[(rows["learning_rate"] == 0.4) & (rows["seed"] == 3), "valid_loss"] = np.inf
    assert chosen_rates(rows, "valid_loss")["arm", 1] == 0.1
    rows.loc[(rows["learning_rate"] == 0.4) & (rows["seed"] == 3), "valid_accuracy"] = np.nan
    assert chosen_rates(rows, "valid_accuracy")["arm", 1] == 0.1


def test_the_end_of_a_grid_is_seen(results):
    rows = results[results["snapshot"] == "loss"]
    best = best_rates(rows, "valid_loss").loc["arm"]  # means 11/3, 13/3, 7/3
    assert best["learning_rate"] == 0.4 and best["at_end"]
    longer = pd.concat([rows, rows[rows["learning_rate"] == 0.1].assign(learning_rate=0.8)])
    assert not best_rates(longer, "valid_loss").loc["arm", "at_end"]
    alone = rows[rows["learning_rate"] == 0.4]
    assert not best_rates(alone, "valid_loss").loc["arm", "at_end"]


def test_the_expected_best_of_k_rates(results):
    rows = results[results["snapshot"] == "loss"]
    one = expected_best(rows, ["test_loss"], "valid_loss", 1).set_index("seed")["test_loss"]
    np.testing.assert_allclose(one, [20, 100 / 3, 50])
    # Two draws of three rates: the best is drawn with 5/9, the second is the best with 3/9.
    two = expected_best(rows, ["test_loss"], "valid_loss", 2).set_index("seed")["test_loss"]
    np.testing.assert_allclose(two[1], (5 * 10 + 3 * 20 + 1 * 30) / 9)
    many = expected_best(rows, ["test_loss"], "valid_loss", 1000).set_index("seed")["test_loss"]
    np.testing.assert_allclose(many, [10, 20, 10], rtol=1e-6)
