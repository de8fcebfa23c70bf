"""Rerank in the shape of Cohere's and Jina's APIs."""

import uuid
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from modelyard_serving.http.body import ModelRequest, StrictRequest, json_answer, read_body
from modelyard_serving.http.departure import while_connected
from modelyard_serving.http.inputs import ReadTokens, read_tokens
from modelyard_serving.http.record import record_of
from modelyard_serving.service import Service
from modelyard_serving.tasks.rerank import Rerank

MAX_DOCUMENTS = 1000
"""As at Cohere."""


class Document(StrictRequest):
    """A document; a plain text stands for one."""

    text: str


GivenDocument = Annotated[Document, BeforeValidator(lambda given: {"text": given} if isinstance(given, str) else given)]


class RerankRequest(ModelRequest):
    """POST /v1/rerank."""

    query: str = Field(min_length=1)
    documents: tuple[GivenDocument, ...] = Field(min_length=1, max_length=MAX_DOCUMENTS)
    top_n: int | None = Field(default=None, ge=1, description="So many of the best; all where left out.")
    return_documents: bool = False
    max_tokens_per_doc: int | None = Field(default=None, ge=1)
    user: str | None = Field(default=None, max_length=200, description="Written to the request log.")


class RerankResult(BaseModel):
    """A document's place in the request and its relevance, from 0 to 1."""

    index: int
    relevance_score: float
    document: Document | None = None


class RerankAnswer(BaseModel):
    """The answer, best first."""

    id: str
    model: str
    results: list[RerankResult]
    usage: ReadTokens


class RerankEndpoints:
    """The endpoints of one service that ranks documents."""

    def __init__(self, service: Service, task: Rerank) -> None:
        self._service = service
        self._task = task
        self.routes = [Route("/v1/rerank", self.rerank, methods=["POST"])]

    async def rerank(self, request: Request) -> Response:
        record = record_of(request, "rerank")
        config = self._service.config
        body = await read_body(request, config.service, RerankRequest)
        record.user = body.user
        ranked = await while_connected(request, self._task.rank(
            body.query, [document.text for document in body.documents],
            document_tokens=body.max_tokens_per_doc, timeout_s=config.request_timeout_s,
        ))  # fmt: skip
        record.prompt_tokens = ranked.tokens
        results = [
            RerankResult(
                index=place, relevance_score=score, document=body.documents[place] if body.return_documents else None
            )
            for place, score in ranked.documents[: body.top_n]
        ]
        name = f"rerank-{uuid.uuid4().hex}"
        answer = RerankAnswer(id=name, model=config.service, results=results, usage=read_tokens(ranked.tokens))
        return json_answer(answer, leave_out_null=not body.return_documents)
