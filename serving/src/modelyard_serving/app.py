"""The generic Ray Serve application: one deployment, the HTTP server inside the replica, all parameters by config.

`modelyard_serving.app:application` is what Ray Serve imports for every model. The import is cheap on purpose: torch and
transformers are imported by the replica, when it knows what to load.
"""

from typing import Any

from ray import serve
from starlette.types import ASGIApp

from modelyard_serving.contract import DEPLOYMENT, ReplicaConfig
from modelyard_serving.journal import Journal
from modelyard_serving.ray_meters import RayMeters
from modelyard_serving.replica import Replica


class ModelDeployment:
    """What Ray Serve sees of a replica."""

    def __init__(self) -> None:
        self._replica = Replica(Journal.open(), RayMeters())

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """Ray Serve's hook for an application that belongs to the replica."""
        return self._replica

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Ray Serve brings the configuration before the first request, and again when it changes."""
        await self._replica.configure(ReplicaConfig.model_validate(user_config))

    async def check_health(self) -> None:
        """Raise when the engine makes no progress; Ray Serve then replaces the replica."""
        self._replica.check()

    def __del__(self) -> None:
        self._replica.close()


deployment = serve.deployment(name=DEPLOYMENT)(serve.ingress()(ModelDeployment))
application = deployment.bind()
