"""``python -m ae_bn``: the same as ``ae-bn info``."""

from ae_bn.commands import start

if __name__ == "__main__":
    start("info")
