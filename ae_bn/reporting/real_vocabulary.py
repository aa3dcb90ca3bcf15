"""Codes at the number of words that users have: autoencoders beside tuned references.

The autoencoders are those of the experiment ``vocabulary`` that start from the linear denoiser, at
the learning rates that validation chose; the references those of ``references``.
"""

from __future__ import annotations

import pandas as pd

from ae_bn.reporting.effects import OWN_EPOCH
from ae_bn.reporting.estimates import Summary, summarize

WORDS, MASKING = "10,000", "masking .9"
RATES = {"48": 0.0005, "128": 0.001}  # by the number of units
REFERENCES = {  # by the name that is shown: its arm and number of words
    "raw TF-IDF": ("raw TF-IDF", WORDS),
    "raw TF-IDF, all words": ("raw TF-IDF, all words", WORDS),
    "truncated SVD, tuned": ("truncated SVD, tuned", WORDS),
    "linear denoiser, tuned": ("linear denoiser, tuned", WORDS),
    "word vectors, tuned": ("word vectors, tuned", WORDS),
}


def real_vocabulary(tables: dict[str, pd.DataFrame], metric: str) -> dict[tuple[str, str], Summary]:
    """Return a metric of the test documents by representation and corpus.

    Parameters
    ----------
    tables : dict of str to DataFrame
        The runs of every experiment.
    metric : str

    Returns
    -------
    dict of (str, str) to Summary
        Empty if one of the experiments has no results.
    """
    if not {"references", "vocabulary"} <= set(tables):
        return {}
    of_references, networks = tables["references"], tables["vocabulary"]
    arm = {"words": WORDS, "start": "denoiser", "masking": MASKING, "snapshot": OWN_EPOCH[metric]}
    networks = networks[(networks[list(arm)] == pd.Series(arm)).all(axis=1)]
    rows = {}
    for name, (start, words) in REFERENCES.items():
        is_shown = of_references["arm"].str.startswith(f"{start} / ")
        rows[name] = of_references[is_shown & (of_references["words"] == words)]
    for units, rate in RATES.items():
        for bn, shown in (("none", "no BN"), ("hidden", "hidden BN")):
            chosen = {"units": units, "learning_rate": rate, "bn": bn}
            chosen = networks[(networks[list(chosen)] == pd.Series(chosen)).all(axis=1)]
            rows[f"{units} units, {shown}"] = chosen
    return {
        (name, corpus): summarize(of[metric])
        for name, of_name in rows.items()
        for corpus, of in of_name.groupby("corpus", sort=False)
    }
