"""What measuring something can come to, besides its digest."""


class WrongError(Exception):
    """It is not there, or not what it should be."""


class UnreadableError(Exception):
    """It cannot be read, so nothing can be said of it."""
