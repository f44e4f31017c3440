"""The one exception a user can cause: its message is a single line that a command prints before it exits with 2."""


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message says what was wrong, what was given and what is allowed, in one line. Commands print it without
    a traceback; everything else that escapes is a defect of ours and keeps its traceback.
    """
