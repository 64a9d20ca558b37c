"""What `python -m hyperspy_lfp` does, apart from reading its arguments."""


class InputError(Exception):
    """Something the user can put right; the message says how."""
