"""The one error of running things on this machine."""


class LocalError(Exception):
    """Something on this machine is in the way. The message is for users: it says what, and what mends it."""
