"""The one error of running things on this machine."""


class LocalError(Exception):
    """Something on this machine is in the way. The message says what, and what mends it; it is shown to users as it is."""
