"""The one exception that means "the user can fix this"."""


class UserError(Exception):
    """A mistake or a circumstance that the user can mend.

    Its message names what is wrong, where, and what to do; a stage prints it without a traceback and exits with 2.
    """
