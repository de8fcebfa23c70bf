"""How requests give an answer a form: OpenAI's `response_format`, and `structured_outputs` as vLLM has it."""

import json
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from modelyard_serving.http.body import StrictRequest
from modelyard_serving.tasks.form import AnswerForm

ANY_OBJECT = '{"type": "object"}'


class JsonSchema(StrictRequest):
    """A JSON Schema with the name that OpenAI's clients give it."""

    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")
    description: str | None = None
    schema_: dict[str, Any] = Field(default={}, alias="schema")
    strict: bool | None = Field(default=None, description="Answers are always held to the schema.")


class ResponseFormat(StrictRequest):
    """Text, any JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _schema_where_it_belongs(self) -> "ResponseFormat":
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("json_schema is needed with type json_schema, and only there")
        return self

    def form(self) -> AnswerForm | None:
        """None: any text."""
        if self.json_schema is not None:
            return AnswerForm("json_schema", json.dumps(self.json_schema.schema_), "response_format.json_schema.schema")
        return AnswerForm("json_schema", ANY_OBJECT, "response_format") if self.type == "json_object" else None


class StructuredOutputs(StrictRequest):
    """One of three forms."""

    json_: dict[str, Any] | None = Field(default=None, alias="json", description="A JSON Schema.")
    regex: Annotated[str, StringConstraints(min_length=1, max_length=10_000)] | None = None
    choice: Annotated[list[Annotated[str, StringConstraints(min_length=1)]], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> "StructuredOutputs":
        if sum(form is not None for form in (self.json_, self.regex, self.choice)) != 1:
            raise ValueError("set exactly one of json, regex, choice")
        return self

    def form(self) -> AnswerForm:
        """The one that is set."""
        if self.regex is not None:
            return AnswerForm("regex", self.regex, "structured_outputs.regex")
        if self.choice is not None:
            return AnswerForm("choice", json.dumps(self.choice), "structured_outputs.choice")
        return AnswerForm("json_schema", json.dumps(self.json_), "structured_outputs.json")
