"""The one error that keeps a replica from starting."""

from modelyard_serving.contract import FailureReason, failure_text


class StartFailure(Exception):
    """The replica cannot start with this configuration.

    Its text carries the reason in the contract's form, because text is all that Ray hands on.
    """

    def __init__(self, reason: FailureReason, message: str) -> None:
        one_line = " ".join(message.split())
        super().__init__(failure_text(reason, one_line))
        self.reason = reason
        self.message = one_line

    def __reduce__(self) -> tuple[type["StartFailure"], tuple[FailureReason, str]]:
        # Ray pickles errors; the default would call the constructor with the text alone.
        return type(self), (self.reason, self.message)
