"""Text classification in OpenAI's manner; OpenAI itself has no endpoint for it."""

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from modelyard_serving.http.body import ModelRequest, json_answer, read_body
from modelyard_serving.http.departure import while_connected
from modelyard_serving.http.inputs import Inputs, ReadTokens, read_tokens
from modelyard_serving.http.record import record_of
from modelyard_serving.service import Service
from modelyard_serving.tasks.classification import Scored, TextClassification


class ClassificationRequest(ModelRequest):
    """POST /v1/classify."""

    input: Inputs
    top_k: int | None = Field(default=None, ge=1, description="Labels of each input; all where left out.")
    user: str | None = Field(default=None, max_length=200, description="Written to the request log.")


class ScoredLabel(BaseModel):
    """A label, its place among the model's labels, and how sure the model is."""

    index: int
    label: str
    score: float


class Classification(BaseModel):
    """The labels of one input, best first."""

    object: Literal["classification"] = "classification"
    index: int
    labels: list[ScoredLabel]


class ClassificationList(BaseModel):
    """The answer."""

    object: Literal["list"] = "list"
    data: list[Classification]
    model: str
    usage: ReadTokens | None = None


class ClassificationEndpoints:
    """The endpoints of one service that classifies texts."""

    def __init__(self, service: Service, task: TextClassification) -> None:
        self._service = service
        self._task = task
        self.routes = [Route("/v1/classify", self.classify, methods=["POST"])]

    async def classify(self, request: Request) -> Response:
        record = record_of(request, "classify")
        config = self._service.config
        body = await read_body(request, config.service, ClassificationRequest)
        record.user = body.user
        found = await while_connected(request, self._task.classify(
            body.input.all, alone=body.input.alone, top_k=body.top_k, timeout_s=config.request_timeout_s
        ))  # fmt: skip
        record.prompt_tokens = found.tokens
        return classified(config.service, found.labels, usage=read_tokens(found.tokens))


def classified(model: str, found: Sequence[Sequence[Scored]], *, usage: ReadTokens | None = None) -> Response:
    """The answer for the labels of each input, as texts and pictures have it."""
    data = [
        Classification(index=place, labels=[ScoredLabel.model_validate(each, from_attributes=True) for each in labels])
        for place, labels in enumerate(found)
    ]
    return json_answer(ClassificationList(data=data, model=model, usage=usage), leave_out_null=True)
