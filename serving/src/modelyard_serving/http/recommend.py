"""Recommendations in OpenAI's manner; OpenAI itself has no endpoint for them."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, StringConstraints, model_validator
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from modelyard_serving.http.body import ModelRequest, json_answer, read_body
from modelyard_serving.http.departure import while_connected
from modelyard_serving.http.record import record_of
from modelyard_serving.models.catalogue import MAX_ID
from modelyard_serving.service import Service
from modelyard_serving.tasks.recommend import Asked, Recommender

MAX_K = 1000
MAX_ITEMS = 1000
MAX_EXCLUDED = 10_000

Id = Annotated[str, StringConstraints(min_length=1, max_length=MAX_ID)]


class RecommendRequest(ModelRequest):
    """POST /v1/recommend, for a user or by items."""

    user_id: Id | None = None
    items: tuple[Id, ...] = Field(default=(), max_length=MAX_ITEMS, description="What the user has had.")
    k: int = Field(default=10, ge=1, le=MAX_K, description="So many at most.")
    exclude: tuple[Id, ...] = Field(default=(), max_length=MAX_EXCLUDED, description="Items not to be recommended.")
    exclude_seen: bool | None = Field(default=None, description="Whether what the user has had is left out.")
    user: str | None = Field(default=None, max_length=200, description="Written to the request log.")

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.user_id is None) == (not self.items):
            raise ValueError("set one of user_id and items (user is only for the request log)")
        return self


class Recommendation(BaseModel):
    """An item and how well it suits; what scores mean is the model's affair, a higher one is better."""

    id: str
    score: float


class RecommendationList(BaseModel):
    """The answer, best first."""

    object: Literal["list"] = "list"
    data: list[Recommendation]
    model: str


class RecommendEndpoints:
    """The endpoints of one service that recommends."""

    def __init__(self, service: Service, task: Recommender) -> None:
        self._service = service
        self._task = task
        self.routes = [Route("/v1/recommend", self.recommend, methods=["POST"])]

    async def recommend(self, request: Request) -> Response:
        record = record_of(request, "recommend")
        config = self._service.config
        body = await read_body(request, config.service, RecommendRequest)
        record.user = body.user
        asked = Asked(body.user_id, body.items, body.exclude, body.exclude_seen, body.k)
        found = await while_connected(request, self._task.recommend(asked, timeout_s=config.request_timeout_s))
        data = [Recommendation(id=name, score=score) for name, score in found]
        return json_answer(RecommendationList(data=data, model=config.service))
