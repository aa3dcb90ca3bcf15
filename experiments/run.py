"""Run an experiment: the same as ``ae-bn run`` (`ae_bn.commands.run`)."""

from ae_bn.commands import start

if __name__ == "__main__":
    start("run")
