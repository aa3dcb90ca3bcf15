"""Codes at the number of words that users have: autoencoders beside tuned references.

The autoencoders are those of the experiment ``vocabulary`` that start from the linear denoiser, at
the learning rates that validation chose; the references those of ``references``.
"""

from __future__ import annotations

import pandas as pd

from ae_bn.reporting.estimates import mean_interval

WORDS, MASKING = "10,000", "masking .9"
RATES = {"48": 0.0005, "128": 0.001}  # by the number of units
REFERENCES = ["raw TF-IDF", "truncated SVD, tuned", "linear denoiser, tuned"]
NETWORKS = {"none": "{} units, no BN", "hidden": "{} units, hidden BN"}  # autoencoders by BN
EPOCHS = {"probe_accuracy": "accuracy"}  # at which a metric is read; otherwise that of precision


def real_vocabulary(tables: dict[str, pd.DataFrame], metric: str) -> pd.DataFrame:
    """Return a metric of the test documents by representation and corpus.

    Parameters
    ----------
    tables : dict of str to DataFrame
        The runs of every experiment.
    metric : str

    Returns
    -------
    DataFrame
        ``n`` (seeds), ``mean``, ``low`` and ``high``, by ``representation`` and ``corpus``; no rows
        if one of the experiments has no results.
    """
    columns = ["n", "mean", "low", "high"]
    if not {"references", "vocabulary"} <= set(tables):
        return pd.DataFrame(columns=columns)
    references, networks = tables["references"], tables["vocabulary"]
    references = references[references["words"] == WORDS]
    references = references.assign(representation=references["arm"].str.split(" / ").str[0])
    arm = {"words": WORDS, "start": "denoiser", "masking": MASKING}
    arm["snapshot"] = EPOCHS.get(metric, "precision")
    networks = networks[(networks[list(arm)] == pd.Series(arm)).all(axis=1)]
    networks = networks[networks["learning_rate"] == networks["units"].map(RATES)]
    names = {(units, bn): NETWORKS[bn].format(units) for units in RATES for bn in NETWORKS}
    keys = pd.MultiIndex.from_frame(networks[["units", "bn"]])
    networks = networks.assign(representation=keys.map(names))
    found = {}
    for name in [*REFERENCES, *names.values()]:
        rows = pd.concat([references, networks])
        for corpus, of in rows[rows["representation"] == name].groupby("corpus", sort=False):
            found[name, corpus] = [len(of), *map(float, mean_interval(of[metric]))]
    table = pd.DataFrame.from_dict(found, orient="index", columns=columns)
    table.index = pd.MultiIndex.from_tuples(table.index, names=["representation", "corpus"])
    return table
