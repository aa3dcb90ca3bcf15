"""Numbers that docs/why.md and pages of the report hold as text are those of the results."""

import re
from pathlib import Path

import pandas as pd
import pytest

from ae_bn.study.record import Record

ROOT = Path(__file__).resolve().parent.parent.parent
LOSSES = ["cross-entropy", "squared error"]
CODES = ["valid_accuracy", "valid_centred_precision"]


def page(name: str) -> str:
    """Return a page on one line."""
    return " ".join((ROOT / "docs" / name).read_text(encoding="utf-8").split())


PAGE = page("why.md")


def results(name: str) -> pd.DataFrame:
    path = ROOT / "results" / name / "results.csv"
    return pd.read_csv(path, keep_default_na=False, na_values="", low_memory=False)


def short(value: float, digits: int) -> str:
    """Return a number of a fraction without its zero, as the page writes it."""
    return f"{value:.{digits}f}".replace("0.", ".", 1)


def row(name: str, cells: list[list[float]]) -> str:
    return f"| {name} | " + " | ".join(", ".join(f"{c:.3f}" for c in cell) for cell in cells) + " |"


def continued() -> pd.DataFrame:
    """Return the means of epochs 21 to 60 after the same weights, a row per network."""
    runs = results("same_weights")
    runs = runs[runs["epoch"].between(21, 60)]
    return runs.groupby(["start", "loss", "seed", "bn", "masking", "decay"])[CODES].mean()


def of_network(means: pd.DataFrame, bn: str, masking: float) -> pd.DataFrame:
    """Return one network without weight decay, a row per loss and seed."""
    return means.xs((bn, masking, 0.0), level=["bn", "masking", "decay"])


def test_networks_from_the_same_weights():
    means = continued().loc["none"]
    starts = results("same_weights").query("start == 'none' and epoch == 0").groupby("loss")[CODES]
    before = "; ".join(f"{a:.3f}, {p:.3f}" for a, p in starts.mean().loc[LOSSES].to_numpy())
    for name, bn, masking in [
        (f"nothing else (before: {before})", "none", 0.0),
        ("BN", "hidden", 0.0),
        ("BN with a constant mean and std", "frozen statistics", 0.0),
        ("masking .5", "none", 0.5),
        ("masking .5 and BN", "hidden", 0.5),
    ]:
        codes = of_network(means, bn, masking).groupby("loss").mean()
        assert row(name, codes.loc[LOSSES].to_numpy()) in PAGE
    decayed = means[means.index.get_level_values("decay") > 0]
    best = decayed.groupby(["loss", "decay"]).mean().groupby("loss").max().loc[LOSSES]
    name = "weight decay, the best of four strengths for each number"
    assert row(name, best.to_numpy()) in PAGE


def test_what_bn_and_weight_decay_change_beside_masking():
    """Each number is the largest or smallest over losses and seeds."""
    for start, other in [("none", "hidden"), ("hidden", "none")]:
        means = continued().loc[start]
        before = of_network(means, start, 0.0)
        gain = of_network(means, start, 0.5) - before
        share = ((of_network(means, other, 0.0) - before) / gain).abs().max()
        if start == "none":
            assert f"BN changes both at most {short(share.max(), 2)} times as much" in PAGE
            decayed = means[means.index.get_level_values("decay") > 0]
            reached = (decayed.groupby(["loss", "seed"]).max() - before) / gain
            least, most = reached.min(), reached.max()
            assert f"reaches at least {short(least[CODES[1]], 2)} of masking's gain" in PAGE
            span = f"{short(least[CODES[0]], 2)} to {short(most[CODES[0]], 2)} in accuracy"
            assert span in PAGE
        else:
            assert f"precision at most {short(share[CODES[1]], 2)} times as much" in PAGE
            assert f"accuracy up to {short(share[CODES[0]], 2)} times" in PAGE


def test_masking_in_the_closed_form_and_in_a_network():
    codes = results("closed_form").groupby("arm")[["probe_accuracy", "centred_precision"]].mean()
    accuracy, precision = codes.loc["masking .5"] - codes.loc["no masking"]
    assert f"adds {short(accuracy, 3)} to its accuracy, {short(precision, 3)} to precision" in PAGE
    answers = page("report/answers.md")
    gains = [
        re.search(rf"\| masking without BN \| {metric} \| squared error \| \+0(\.\d+)", answers)
        for metric in ("accuracy", "centred precision")
    ]
    assert f"with squared error and no BN {gains[0][1]} and {gains[1][1]} (" in PAGE


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("bn", "shown"), [("none", ""), ("hidden", ", BN")])
def test_codes_with_hidden_dropout(loss, bn, shown):
    codes = results("code_dimensions")
    codes = codes[(codes["loss"] == loss) & (codes["bn"] == bn)].groupby("dropout")
    codes = codes[[*CODES, "active"]].mean()
    cells = [
        ", ".join([*(short(value, 3) for value in codes.loc[dropout, CODES]),
                   short(codes.loc[dropout, "active"], 2)])
        for dropout in ("none", "masking .5", "hidden .5")
    ]  # fmt: skip
    assert f"| {loss}{shown} | {' | '.join(cells)} |" in PAGE


def test_left_out_words():
    words = results("left_out_words").query("loss == 'cross-entropy'")
    costs = words.groupby(["masking", "bn"])["left_out"].mean().round(2)
    before, after = costs["none", "none"], costs["masking .5", "none"]
    assert f"deleted word is {before:.2f} nats, and {after:.2f} after masking .5 (" in PAGE
    assert abs(costs["none", "hidden division"] - before) < 0.02  # "has the same loss"
    said = [costs["none", "hidden"], costs["none", "hidden centring"]]
    said += [before, after, costs["masking .5", "hidden"]]
    with_bn, centred, *others = (f"{cost:.2f}" for cost in said)
    shown = (
        f"({others[0]} nats without BN; {with_bn}, {centred}), division leaves it ({before:.2f})"
    )
    assert f"{shown}, and with masking .5 BN lowers it ({', '.join(others[1:])})" in page(
        "estimands.md"
    )


def test_harm_of_hidden_dropout_by_units():
    table = (ROOT / "results/hidden_dropout_units/table.md").read_text(encoding="utf-8")
    relu, with_bn, linear = (
        "".join(
            re.search(rf"hidden dropout, {arm} +\|[^|]*\| (?:\+|(-))0(\.\d+)", table).groups("")
        )
        for arm in ("units ReLU, bn none", "units ReLU, bn hidden", "units linear, bn none")
    )
    answers = page("report/answers.md")
    row_of_bn = r"\| 20 Newsgroups, squared error \| with hidden BN \| -0(\.\d+)"
    smaller = re.search(row_of_bn, answers)[1]
    harm = f"by {relu[1:]}, with BN by {with_bn[1:]} (by {smaller} at smaller ones)"
    gain = f"[linear units](report/hidden_dropout_units.md) gain {linear}."
    assert f"the larger learning rates {harm}; {gain}" in PAGE


def test_share_of_the_mean_with_output_bn():
    runs = results("core")
    runs = runs[
        (runs["loss"] == "cross-entropy")
        & (runs["masking"] == "none")
        & (runs["snapshot"] == "loss")
    ]
    share = runs[runs["learning_rate"] == 0.001].groupby("bn")["mean_share"].mean()
    span = f"{short(share['hidden'], 2)} to {short(share['hidden + output'], 2)}"
    assert f"rises from {span}." in PAGE


def test_parts_of_bn():
    page_of_parts = (ROOT / "docs/report/decomposition_cross_entropy.md").read_text("utf-8")

    def changes(part: str, what: str, digits: int) -> list[str]:
        """Return the smallest and the largest change over learning rates, as the page writes it."""
        row = re.search(rf"\| {part} \| {what} \|(.*)", page_of_parts)[1]
        values = sorted(map(float, re.findall(r"([+-][\d.]+) \[", row)), key=abs)
        return [f"{value:+.{digits}f}".replace("0.", ".", 1) for value in (values[0], values[-1])]

    least, most = changes("hidden BN", "accuracy", 3)
    assert f"hidden BN changes accuracy by {least} to {most}," in PAGE
    least, most = changes("division, hidden", "accuracy", 3)
    assert f"dividing by std alone by {least} to {most}," in PAGE
    least, most = changes("centring, hidden", "accuracy", 3)
    assert f"centring alone by {most} to {least}." in PAGE
    least, most = (end.lstrip("-") for end in changes("output BN", "none", 1))
    assert f"Output BN alone lowers the loss by {least} to {most} nats" in PAGE
    ends = [end for part in ("centring, output", "division, output")
            for end in changes(part, "none", 1)]  # fmt: skip
    least, most = (end.lstrip("-") for end in (max(ends, key=float), min(ends, key=float)))
    assert f"dividing or centring alone by {least} to {most}." in PAGE


def test_hidden_dropout_at_constant_rates():
    runs = results("core_hidden_dropout")
    runs = runs[(runs["loss"] == "squared error") & (runs["bn"] == "none")]
    runs = runs[(runs["dropout"] == "hidden .5") & (runs["snapshot"] == "accuracy")]
    by_rate = runs.groupby("learning_rate")["probe_accuracy"].mean()
    first, second, third = (short(by_rate[rate], 3) for rate in (0.001, 0.0005, 0.00025))
    assert f"accuracy is {first}, {second} and {third} at" in page(
        "report/hidden_dropout_annealed.md"
    )


def test_kate_at_another_rate():
    runs = results("core_kate")
    runs = runs[(runs["arm"].str.startswith("512 / none / k-competitive"))]
    runs = runs[(runs["learning_rate"] == 0.002) & (runs["snapshot"] == "accuracy")]
    accuracy = runs["softmax_accuracy"].mean()
    assert f"At 0.002 KATE's classifier finds {accuracy:.3f} on" in page("report/core_kate.md")


def test_precision_with_momentum():
    runs = results("momentum")
    codes = runs[runs["snapshot"] == "precision"].groupby("arm")["centred_precision"].mean()
    arms = ("none / 0.064", "rate per unit / 0.016", "hidden / 0.016")
    none, per_unit, bn = (codes[arm] for arm in arms)
    assert f"have {none:.3f} and {per_unit:.3f}, BN {bn:.3f}." in page("report/momentum.md")


def test_epochs_to_an_accuracy_with_momentum():
    runs = results("momentum").drop_duplicates("run")
    assert not runs["capped"].any()
    lines, text = Record(ROOT / "results/record").lines, page("report/momentum.md")
    for arm, shown, said in [
        ("none / 0.064", "no BN | 0.064", "takes {} epochs without BN at 0.064"),
        ("rate per unit / 0.016", "rate per unit | 0.016", "{} with a rate per unit"),
        (
            "hidden, constant statistics / 0.016",
            "BN, constant statistics | 0.016",
            "{} with BN whose",
        ),
        ("hidden / 0.016", "BN | 0.016", "and {} with BN."),
    ]:
        paths = [pd.DataFrame(lines[run]["history"]) for run in runs.loc[runs["arm"] == arm, "run"]]
        assert len(paths) == 3
        spans = []
        for level in (0.2, 0.4, 0.55):
            firsts = [path.loc[path["valid_accuracy"] >= level, "epoch"].min() for path in paths]
            least, most = min(firsts), max(firsts)
            spans.append(f"{least}" if least == most else f"{least} to {most}")
        assert f"| {shown} | {' | '.join(spans)} |" in text
        assert said.format(spans[1]) in text
    dead = runs.loc[runs["arm"] == "none / 0.256", "run"]
    assert all(lines[run]["history"]["dead_units"][0] == 1 for run in dead)


def test_epochs_of_sigmoid_units():
    runs = results("saturation").drop_duplicates("run").groupby("bn")["epochs"].agg(["min", "max"])
    none, hidden = (f"{runs['min'][bn]:,} to {runs['max'][bn]:,}" for bn in ("none", "hidden"))
    said = f"runs end after {none} epochs, with hidden BN after {hidden}."
    assert said in page("report/saturation.md")


def test_accuracy_in_small_and_large_minibatches():
    text = page("report/batch_size.md")
    cells = {
        masking: re.search(
            rf"\| squared error \| {masking} \| ([\d.]+) [^|]*\|[^|]*\|[^|]*\| ([\d.]+) ", text
        ).groups()
        for masking in ("none", "masking .5")
    }
    small, large = (
        float(with_masking) - float(without)
        for with_masking, without in zip(cells["masking .5"], cells["none"])
    )
    assert f"squared error: {short(small, 3)} and {short(large, 3)} there" in text
