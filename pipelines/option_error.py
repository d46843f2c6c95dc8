"""What is wrong with the options."""

from __future__ import annotations


class OptionError(Exception):
    """Options that cannot be used.

    Args:
      problems: what is wrong, where, and how to mend it; a line each.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
