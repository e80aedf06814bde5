"""The one exception that means "the user can fix this"."""


class UserError(Exception):
    """An error that the user can fix.

    Its message says what is wrong, where, and what to do; a stage prints it without a traceback and exits with code 2.
    """
