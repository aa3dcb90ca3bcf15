"""Encode raw text: the same as ``ae-bn encode`` (`ae_bn.commands.encode`)."""

from ae_bn.commands import start

if __name__ == "__main__":
    start("encode")
