"""The exception for errors that the user can fix."""


class UserError(Exception):
    """An error that the user can fix.

    The message says what is wrong, where, and what to do. A stage prints it without a traceback and exits with code 2.
    """
