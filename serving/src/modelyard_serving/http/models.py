"""OpenAI's list of models, which has the one that is served here."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from modelyard_serving.http.body import check_model, json_answer
from modelyard_serving.http.record import record_of
from modelyard_serving.http.responses import ModelCard, ModelList
from modelyard_serving.service import Service


class ModelEndpoints:
    """The same for every task."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.routes = [
            Route("/v1/models", self.list_models, methods=["GET"]),
            Route("/v1/models/{model:path}", self.get_model, methods=["GET"]),
        ]

    async def list_models(self, request: Request) -> Response:
        record_of(request, "models")
        return json_answer(ModelList(data=[self._card()]))

    async def get_model(self, request: Request) -> Response:
        record_of(request, "models")
        check_model(request.path_params["model"], self._service.config.service)
        return json_answer(self._card())

    def _card(self) -> ModelCard:
        return ModelCard(id=self._service.config.service, created=self._service.loaded_at)
