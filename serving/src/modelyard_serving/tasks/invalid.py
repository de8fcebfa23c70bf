"""The one error for a request that is well formed and yet cannot be done."""


class InvalidInput(Exception):
    """The request cannot be served as it is; `field` names what to change."""

    def __init__(self, field: str, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.field = field
        self.code = code
