"""The exception for mistakes of the user."""


class UserError(ValueError):
    """A mistake in a config, corpus, file or argument, described in one line.

    The line names the problem, the value and the fix.  Command-line programs print it without a
    traceback and exit with code 2.

    Parameters
    ----------
    message : str
        The description; line breaks in it, which names may have, become blanks.
    """

    def __init__(self, message: str):
        super().__init__(" ".join(message.splitlines()))
