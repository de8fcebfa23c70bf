"""Text generation: from messages or text to tokens, through an engine, and back to text."""

import asyncio
import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from jinja2 import TemplateError

from modelyard_serving.contract import EngineConfig
from modelyard_serving.engines.protocol import Constraint, Ending, Engine, EngineStats, GenerationRequest, Sampling
from modelyard_serving.tasks.answer import ChoiceText, TextAnswer, TextRequest
from modelyard_serving.tasks.form import AnswerForm, InvalidForm
from modelyard_serving.tasks.invalid import InvalidInput
from modelyard_serving.tasks.text import TokenDecoder
from modelyard_serving.tasks.tool_calls import CallStyle, call_style
from modelyard_serving.tasks.vocabulary import Vocabulary

TOOLS = re.compile(r"{%[^%]*\btools\b|{{[^}]*\btools\b")
"""A chat template that reads the list of tools."""
PROOF_PROMPT = "The"
PROOF_TOKENS = 4


class TextGeneration:
    """A causal language model as text in, text out."""

    def __init__(self, engine: Engine, tokenizer: Any) -> None:
        self.engine = engine
        self._tokenizer = tokenizer
        self._vocabulary = Vocabulary(tokenizer)
        # Here and not above: the module needs torch, whose import belongs into the ledger of the start.
        from modelyard_serving.tasks.grammar import Grammars

        self._grammars = Grammars(tokenizer, engine.end_tokens)
        # One thread: long texts must not hold up the event loop, and tokenizers are not made for many threads.
        self._tokenizing = ThreadPoolExecutor(max_workers=1, thread_name_prefix="modelyard-tokenizer")

    @property
    def can_chat(self) -> bool:
        """Whether the model's files say how it takes a conversation."""
        return bool(self._tokenizer.chat_template)

    @property
    def call_style(self) -> CallStyle:
        """How the model writes calls of tools; nowhere where its chat template does not know tools."""
        template = str(self._tokenizer.chat_template or "")
        return call_style(template) if TOOLS.search(template) else CallStyle.NOWHERE

    async def chat_prompt(
        self, messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]] = ()
    ) -> tuple[int, ...]:
        """The tokens of a conversation in the model's own format, with the tools that it may call.

        Raises:
            InvalidInput: the model has no chat template, its template knows no tools, or it refuses these messages.
        """
        if not self.can_chat:
            raise InvalidInput(
                "messages", "this model has no chat template; use /v1/completions", code="no_chat_template"
            )
        if tools and self.call_style is CallStyle.NOWHERE:
            message = "this model's chat template knows no tools; choose a model that was trained to call them"
            raise InvalidInput("tools", message, code="no_tools")
        try:
            tokens = await self._in_thread(self._apply_template, list(messages), list(tools))
        except (TemplateError, TypeError, ValueError) as error:
            raise InvalidInput("messages", f"the model's chat template refuses the messages: {error}") from error
        return tuple(tokens)

    async def text_prompt(self, text: str) -> tuple[int, ...]:
        """The tokens of a plain text, with what the model expects at a beginning."""
        return tuple(await self._in_thread(self._tokenizer.encode, text))

    def check_tokens(self, tokens: Sequence[int], field: str) -> tuple[int, ...]:
        """Tokens that the user names in `field`; raises `InvalidInput` for one that the model does not know."""
        unknown = next((token for token in tokens if not 0 <= token < len(self._tokenizer)), None)
        if unknown is not None:
            raise InvalidInput(field, f"{unknown} is no token: the model has 0 to {len(self._tokenizer) - 1}")
        return tuple(tokens)

    async def constraint(self, form: AnswerForm | None, ending: Ending) -> Constraint | None:
        """What holds an answer to a form.

        Raises:
            InvalidInput: the form cannot be held, or nothing may end the answer where the form does.
        """
        if form is None:
            return None
        if ending.ignore_eos or ending.min_tokens:
            field = "ignore_eos" if ending.ignore_eos else "min_tokens"
            raise InvalidInput(field, f"an answer that {form.field} gives a form ends with that; leave {field} out")
        try:
            return await asyncio.to_thread(self._grammars.grammar, form)
        except InvalidForm as error:
            raise InvalidInput(form.field, str(error)) from error

    def answer(self, request: TextRequest) -> TextAnswer:
        """Hand the request to the engine.

        Raises:
            InvalidInput: it is empty or does not fit the model's context, or asks for less than it asks for at least.
            QueueFull: the engine takes no more requests now.
            EngineFailed: the engine is broken.
        """
        generation = self.engine.submit(GenerationRequest(
            request.prompt, self._fit(request), request.sampling, request.ending, request.constraint,
            choices=request.choices, logprobs=request.logprobs,
        ))  # fmt: skip
        choices = [
            ChoiceText(request, TokenDecoder(self._decode, request.prompt), self._vocabulary)
            for _ in range(request.choices)
        ]
        return TextAnswer(request, generation, choices)

    async def prove(self, timeout_s: float) -> tuple[int, float]:
        """A real inference through the engine, beside whatever else runs: tokens made and seconds it took.

        Raises:
            TimeoutError: it took longer than `timeout_s`.
            EngineFailed: the engine could not do it.
        """
        began = time.monotonic()
        prompt = await self.text_prompt(PROOF_PROMPT)
        request = GenerationRequest(prompt, PROOF_TOKENS, Sampling(temperature=0), urgent=True)
        generation = self.engine.submit(request)
        try:
            async with asyncio.timeout(timeout_s):
                made = [event.token async for event in generation]
        finally:
            generation.cancel()
        return len(made), time.monotonic() - began

    def stats(self) -> EngineStats:
        """What the engine has on its hands now."""
        return self.engine.stats()

    def check(self) -> None:
        """Raise `EngineFailed` when the engine makes no progress any more."""
        self.engine.check()

    def resize(self, config: EngineConfig) -> None:
        """Obey new limits from now on."""
        self.engine.resize(config)

    def close(self) -> None:
        """Stop the engine."""
        self.engine.close()
        self._tokenizing.shutdown(wait=False)

    def _fit(self, request: TextRequest) -> int:
        """How many tokens the answer may have."""
        length, context = len(request.prompt), self.engine.context_length
        if length == 0:
            raise InvalidInput(request.prompt_field, "the prompt is empty")
        room = context - length
        if room < 1:
            raise InvalidInput(
                request.prompt_field,
                f"the prompt has {length} tokens, {1 - room} too many: "
                f"the context has {context}, one of them for the answer",
                code="context_length_exceeded",
            )
        if request.max_tokens is not None and request.max_tokens > room:
            raise InvalidInput(
                request.max_tokens_field,
                f"{request.max_tokens} is {request.max_tokens - room} too many: "
                f"the prompt has {length} of the context's {context} tokens, so at most {room} are left",
                code="context_length_exceeded",
            )
        limit = room if request.max_tokens is None else request.max_tokens
        if request.ending.min_tokens > limit:
            raise InvalidInput(
                "min_tokens", f"{request.ending.min_tokens} is more than the {limit} tokens that the answer may have"
            )
        return limit

    async def _in_thread(self, function: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._tokenizing, function, *arguments)

    def _apply_template(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> list[int]:
        tokens: list[int] = self._tokenizer.apply_chat_template(
            messages, tools=tools or None, add_generation_prompt=True, tokenize=True, return_dict=False
        )
        return tokens

    def _decode(self, tokens: list[int]) -> str:
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=True)
        return text
