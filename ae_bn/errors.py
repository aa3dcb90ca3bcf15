"""The one exception for users' mistakes."""


class UserError(ValueError):
    """A mistake in a config, corpus, file or argument, told in one line.

    The line names the offending thing and says what to do.  Command-line programs print it
    without a traceback and exit with code 2.
    """

    def __init__(self, message: str):
        super().__init__(" ".join(message.splitlines()))  # names may have line breaks
