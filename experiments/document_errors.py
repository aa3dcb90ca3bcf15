"""How much does the sample of test documents add to what is not known about an effect?

    python experiments/document_errors.py

Two networks make many of their errors on the same documents, so the standard error of a difference
of accuracies is smaller than that of two independent ones.  The program trains the four arms of
the interaction of BN and masking on two corpora with both losses, one seed each, and fits a ridge
probe on their codes.  A document contributes to an effect c = sum of +1 or -1 for each arm that
classifies it rightly.  The standard error of the effect over documents is std(c) / sqrt(n).  That
of the report's effects, which are means over seeds, is smaller.  Learning rates are fixed, and the
codes are those of the lowest validation loss.

It writes ``results/document_errors.csv``.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np
import pandas as pd
from same_weights import RATES

from ae_bn.commands.command_line import OneLineParser, run_program
from ae_bn.files import atomic_write
from ae_bn.reporting.effects import EFFECTS
from ae_bn.reporting.settings import HIDDEN_ONLY, MASKING, NONE

OUT = Path("results", "document_errors.csv")
CONFIGS = {"20 Newsgroups": "core", "Reuters R52": "core_reuters"}
ARMS = list(itertools.product(HIDDEN_ONLY, (NONE, MASKING)))  # of BN and masking, levels of CONFIGS
MEASURED = ["BN instead of masking", "masking with hidden BN", "interaction of BN and masking"]
SUMS = {  # the arms that count +1, and those that count -1
    "one arm": (ARMS[:1], []),
    **{name: (EFFECTS[name].plus, EFFECTS[name].minus) for name in MEASURED},
}


def parse_arguments(arguments):
    parser = OneLineParser(description=(__doc__ or "").split("\n\n")[0])
    parser.formatter_class = argparse.ArgumentDefaultsHelpFormatter
    parser.add_argument("--seed", type=int, default=1, help="the seed of all arms")
    parser.add_argument("--debug", action="store_true", help="show a traceback with an error")
    return parser.parse_args(arguments)


def right(corpus: str, loss: str, bn: str, masking: str, seed: int) -> np.ndarray:
    """Train an arm to its lowest validation loss and return which test documents it classifies.

    Parameters
    ----------
    corpus : str
        The corpus, a key of `CONFIGS`.
    loss : str
        The loss, a key of `RATES`, with the rows that go with it.
    bn : str
        The layers with BN, a level of the config.
    masking : str
        The masking of the input, a level of the config.
    seed : int
        The seed of the split, the weights and the order of the documents.

    Returns
    -------
    bool array, (n_test,)
        Whether the probe finds the label of a test document.
    """
    from sklearn.linear_model import RidgeClassifierCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from ae_bn.config import load_config
    from ae_bn.data.corpus import load_corpus, split_validation
    from ae_bn.evaluation.codes import STRENGTHS
    from ae_bn.randomness import streams
    from ae_bn.study.compiled import compiled
    from ae_bn.training import fit

    base = load_config(Path("configs", f"{CONFIGS[corpus]}.yaml"))
    factors, settings = base.experiment.factors, {"training.learning_rate": RATES[loss]}
    for factor, level in (("loss", loss), ("bn", bn), ("masking", masking)):
        settings.update(factors[factor][level])
    config = base.replace(settings)
    documents = load_corpus(config.data)
    stream = streams(seed)
    fraction = config.data.validation_fraction
    fit_rows, valid_rows = split_validation(documents.train.shape[0], fraction, stream.split)
    X, X_valid = documents.train[fit_rows], documents.train[valid_rows]
    with compiled(config, X.shape[1]) as autoencoder:
        autoencoder.initialize(X, stream, RATES[loss], config.model.dropout)
        fit(autoencoder, X, X_valid, config.training, stream.order)
        codes, test_codes = autoencoder.encode(documents.train), autoencoder.encode(documents.test)
    strengths = [strength * len(codes) for strength in STRENGTHS]
    probe = make_pipeline(StandardScaler(), RidgeClassifierCV(strengths))
    probe.fit(codes, documents.train_labels)
    return probe.predict(test_codes) == documents.test_labels


def standard_error(arms: dict, plus: list, minus: list) -> float:
    """Return the standard error over documents of a signed sum of accuracies.

    Parameters
    ----------
    arms : dict of bool array, (n_test,)
        Which documents each arm classifies rightly.
    plus, minus : list
        The keys of the arms that count +1 and -1.

    Returns
    -------
    float
        The standard deviation of c over documents, divided by the root of their number.
    """
    c = sum(arms[arm].astype(float) for arm in plus) - sum(arms[arm].astype(float) for arm in minus)
    return float(np.std(c, ddof=1) / np.sqrt(len(c)))


def main(arguments: list[str]) -> None:
    options = parse_arguments(arguments)
    found = []
    for corpus, loss in itertools.product(CONFIGS, RATES):
        arms = {arm: right(corpus, loss, *arm, options.seed) for arm in ARMS}
        independent = {arm: standard_error(arms, [arm], []) ** 2 for arm in arms}
        for effect, (plus, minus) in SUMS.items():
            apart = np.sqrt(sum(independent[arm] for arm in [*plus, *minus]))
            error = standard_error(arms, plus, minus)
            row = dict(corpus=corpus, loss=loss, effect=effect, documents=len(arms[ARMS[0]]))
            found.append({**row, "standard_error": error, "if_independent": float(apart)})
            print(*found[-1].values(), sep=", ", flush=True)
        with atomic_write(OUT) as file:
            pd.DataFrame(found).to_csv(file, index=False, float_format="%.3g")
    print(f"\n{OUT} is written")


if __name__ == "__main__":
    run_program(main, f"the effects that are done are in {OUT}")
