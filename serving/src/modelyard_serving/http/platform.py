"""What the platform asks of a replica: a proof that it answers, and its metrics."""

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from modelyard_serving.contract import METRICS_PATH, PROVE_PATH, Proof
from modelyard_serving.engines.protocol import EngineFailed
from modelyard_serving.http.errors import ApiError
from modelyard_serving.service import Service

PROOF_TIMEOUT_S = 30.0


class PlatformEndpoints:
    """The endpoints that the gateway keeps from users."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.routes = [
            Route(PROVE_PATH, self.prove, methods=["GET"]),
            Route(METRICS_PATH, self.metrics, methods=["GET"]),
        ]

    async def prove(self, request: Request) -> Response:
        """200 with a `Proof` after a real inference, else 503 with the cause."""
        request.scope["modelyard.record"].endpoint = "prove"
        try:
            tokens, seconds = await self._service.loaded.model.prove(PROOF_TIMEOUT_S)
        except TimeoutError as error:
            raise ApiError(503, f"no proof within {PROOF_TIMEOUT_S:g} s", code="proof_failed") from error
        except EngineFailed as error:
            raise ApiError(503, f"no proof: {error}", code="proof_failed") from error
        config = self._service.config
        proof = Proof(
            service=config.service, revision=config.revision, seconds=round(seconds, 4), tokens=tokens,
            start=self._service.start,
        )  # fmt: skip
        return Response(proof.model_dump_json(), media_type="application/json")

    async def metrics(self, request: Request) -> Response:
        """Prometheus' text format."""
        request.scope["modelyard.record"].endpoint = "metrics"
        self._service.measure()
        return Response(self._service.metrics.render(), media_type=CONTENT_TYPE_LATEST)
