"""Log-probabilities in OpenAI's two shapes."""

from collections.abc import Sequence

from pydantic import BaseModel

from modelyard_serving.tasks.answer import ScoredToken, SpelledToken


class ChatTokenLogprob(BaseModel):
    """A token that might have come."""

    token: str
    logprob: float
    bytes: list[int]


class ChatContentLogprob(ChatTokenLogprob):
    """A token of the answer."""

    top_logprobs: list[ChatTokenLogprob]


class ChatLogprobs(BaseModel):
    """Those of a chat choice or of its chunk."""

    content: list[ChatContentLogprob]
    refusal: None = None


class TextLogprobs(BaseModel):
    """Those of a completion's choice or of its chunk: four lists, a place for each token."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


def chat_logprobs(scored: Sequence[ScoredToken]) -> ChatLogprobs:
    """Each token with the likeliest of its place; the chosen one is among these only where it belongs."""
    return ChatLogprobs(content=[_chat_content(token) for token in scored])


def text_logprobs(scored: Sequence[ScoredToken]) -> TextLogprobs:
    """As OpenAI does, the chosen token is among the top ones even if it is none of the likeliest."""
    return TextLogprobs(
        tokens=[_text_token(token.chosen) for token in scored],
        token_logprobs=[token.chosen.logprob for token in scored],
        top_logprobs=[_by_text((*token.top, token.chosen)) for token in scored],
        text_offset=[token.offset for token in scored],
    )


def _by_text(tokens: Sequence[SpelledToken]) -> dict[str, float]:
    """Best first; of tokens with the same text the likeliest counts."""
    found: dict[str, float] = {}
    for token in tokens:
        found.setdefault(_text_token(token), token.logprob)
    return found


def _chat_content(token: ScoredToken) -> ChatContentLogprob:
    chosen = _chat_token(token.chosen)
    return ChatContentLogprob(
        token=chosen.token, logprob=chosen.logprob, bytes=chosen.bytes,
        top_logprobs=[_chat_token(other) for other in token.top],
    )  # fmt: skip


def _chat_token(token: SpelledToken) -> ChatTokenLogprob:
    return ChatTokenLogprob(token=_shown(token.spelled, ""), logprob=token.logprob, bytes=list(token.spelled))


def _text_token(token: SpelledToken) -> str:
    return _shown(token.spelled, "bytes:")


def _shown(spelled: bytes, prefix: str) -> str:
    r"""The text, or `\xf0\x9f` for what is not whole characters."""
    try:
        return spelled.decode()
    except UnicodeDecodeError:
        return prefix + "".join(f"\\x{byte:02x}" for byte in spelled)
