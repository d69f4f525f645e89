"""How a command ends early: with a sentence and an exit code, never with a traceback."""

from typing import Any

USAGE_ERROR = 2
DEFECT = 1
INTERRUPTED = 130


class CommandError(Exception):
    """Ends the command.

    Attributes:
        code: the process's exit code; 2 promises that nothing was started.
        more: further fields of the JSON document, where one was asked for.
    """

    def __init__(self, sentence: str, code: int = USAGE_ERROR, **more: Any) -> None:
        super().__init__(sentence)
        self.code = code
        self.more = more
