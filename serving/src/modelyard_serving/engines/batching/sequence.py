"""One answer in the making, as the scheduler sees it: tokens and places, neither tensors nor text."""

from collections.abc import Sequence as Tokens


class Sequence:
    """The tokens of a prompt and its answer, and how many of them the memory of keys and values has."""

    def __init__(self, prompt: Tokens[int], *, group: object, urgent: bool = False) -> None:
        self.tokens = list(prompt)
        self.prompt_length = len(prompt)
        self.group = group
        """The sequences of one request have one group: they share the prompt."""
        self.urgent = urgent
        self.blocks: list[int] = []
        self.computed = 0

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for it any more."""
        return False

    @property
    def pending(self) -> int:
        """Tokens that are known but not computed."""
        return len(self.tokens) - self.computed


def blocks_for(tokens: int, block_size: int) -> int:
    """How many blocks so many tokens take."""
    return -(-tokens // block_size)
