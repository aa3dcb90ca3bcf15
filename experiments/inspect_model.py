"""Look into a trained model: the same as ``ae-bn inspect`` (`ae_bn.commands.inspect`)."""

from ae_bn.commands import start

if __name__ == "__main__":
    start("inspect")
