"""Tools in OpenAI's chat requests."""

import json
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, field_validator

from modelyard_serving.http.body import StrictRequest
from modelyard_serving.tasks.form import AnswerForm
from modelyard_serving.tasks.tool_calls import calls_schema

ToolName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


NO_PARAMETERS = {"type": "object", "properties": {}, "additionalProperties": False}


class Function(StrictRequest):
    """What the model may call; `parameters` is a JSON Schema."""

    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] = NO_PARAMETERS
    strict: bool | None = Field(default=None, description="Arguments are held to the schema where a call is demanded.")


class Tool(StrictRequest):
    """A function."""

    type: Literal["function"]
    function: Function

    def plain(self) -> dict[str, Any]:
        """As chat templates take it."""
        return {"type": "function", "function": self.function.model_dump(exclude_none=True, exclude={"strict"})}


class NamedFunction(StrictRequest):
    """A function by its name."""

    name: ToolName


class NamedTool(StrictRequest):
    """The tool that must be called."""

    type: Literal["function"]
    function: NamedFunction


ToolChoice = Literal["none", "auto", "required"] | NamedTool


class CalledFunction(StrictRequest):
    """A call that the model made earlier."""

    name: ToolName
    arguments: str

    @field_validator("arguments")
    @classmethod
    def _json_object(cls, value: str) -> str:
        try:
            found = json.loads(value or "{}")
        except ValueError as error:
            raise ValueError(f"must be a JSON object as text: {error}") from error
        if not isinstance(found, dict):
            raise ValueError("must be a JSON object as text")  # noqa: TRY004 - pydantic tells ValueErrors
        return value


class EarlierCall(StrictRequest):
    """A call of an assistant's turn."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction

    def plain(self) -> dict[str, Any]:
        """As chat templates take it: arguments are an object there."""
        called = {"name": self.function.name, "arguments": json.loads(self.function.arguments or "{}")}
        return {"id": self.id, "type": "function", "function": called}


class ToolUse(StrictRequest):
    """The tools of a request and which of them may or must be called."""

    tools: tuple[Tool, ...]
    choice: Literal["none", "auto", "required"] | NamedTool
    several: bool

    @classmethod
    def of(cls, tools: tuple[Tool, ...], choice: ToolChoice | None, *, several: bool) -> Self | None:
        """None: there are no tools to call.

        Raises:
            ValueError: the named tool is not among them, or one is demanded and there are none.
        """
        if not tools:
            if choice not in (None, "none", "auto"):
                raise ValueError("tool_choice demands a call, but tools is empty")
            return None
        names = [tool.function.name for tool in tools]
        if len(set(names)) < len(names):
            raise ValueError("tools: each name must be there once")
        if isinstance(choice, NamedTool) and choice.function.name not in names:
            raise ValueError(f"tool_choice: there is no tool {choice.function.name!r}; there are {', '.join(names)}")
        return cls(tools=tools, choice=choice or "auto", several=several)

    @property
    def only(self) -> str | None:
        """The name of the tool that must be called."""
        return self.choice.function.name if isinstance(self.choice, NamedTool) else None

    def form(self) -> AnswerForm | None:
        """What the answer must look like where a call is demanded."""
        if self.choice in ("none", "auto"):
            return None
        schemas = {tool.function.name: tool.function.parameters for tool in self.tools}
        if self.only is not None:
            schema = {"type": "object", **schemas[self.only]}
        else:
            schema = calls_schema(list(schemas.items()), several=self.several)
        return AnswerForm("json_schema", json.dumps(schema), "tools")
