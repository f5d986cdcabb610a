"""Errors: a complaint is an expected failure of a command, told in one sentence."""


class Complaint(Exception):
    """Ends a command.

    Args:
        sentence: Names the thing and the way out; no full stop.
        code: The exit code: 2 for a wrong call, 1 for work that failed.
    """

    def __init__(self, sentence: str, code: int = 2) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.code = code
