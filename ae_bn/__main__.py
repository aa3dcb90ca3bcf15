"""``python -m ae_bn``: the same program as ``ae-bn``."""

from ae_bn.commands import main

if __name__ == "__main__":
    main()
