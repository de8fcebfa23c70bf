"""Facts from Ray Serve's details (`GET /api/serve/applications/`, ray/serve/schema.py, ServeInstanceDetails)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from modelyard_serving.contract import DEPLOYMENT

_SERVING = ("RUNNING", "PENDING_MIGRATION")
"""A replica on a node that drains serves until its replacement does."""


@dataclass(frozen=True)
class ApplicationFacts:
    """One Serve application."""

    name: str
    status: str
    """NOT_STARTED, DEPLOYING, DEPLOY_FAILED, RUNNING, UNHEALTHY or DELETING."""
    message: str = ""
    target: int = 0
    running: int = 0
    recovering: bool = False
    """Whether a new controller still looks for replicas that ran under the one before it."""
    nodes: frozenset[str] = frozenset()
    """IP addresses of the pods with a running replica."""
    placed: tuple[str, ...] = ()
    """IP addresses of the pods of all its replicas that have one, also of those that start or finish requests."""
    config: dict[str, Any] | None = field(default=None, compare=False)
    """What was submitted; None for an application that is going away."""

    @property
    def group(self) -> str | None:
        """The worker group that its replicas run in, by the resource that they ask for."""
        for deployment in (self.config or {}).get("deployments") or []:
            for resource in (deployment.get("ray_actor_options") or {}).get("resources") or {}:
                return str(resource).removeprefix("group-")
        return None

    @property
    def demand(self) -> int:
        """Replicas that there are to be, also where Serve has only just been told."""
        deployments = (self.config or {}).get("deployments") or [{}]
        return max(self.target, int(deployments[0].get("num_replicas") or 0))


def parse_details(details: Mapping[str, Any]) -> dict[str, ApplicationFacts]:
    """The applications of a Ray cluster, by name."""
    return {name: _application(name, app) for name, app in (details.get("applications") or {}).items()}


def _application(name: str, app: Mapping[str, Any]) -> ApplicationFacts:
    deployment = (app.get("deployments") or {}).get(DEPLOYMENT) or {}
    replicas = deployment.get("replicas") or []
    running = [replica for replica in replicas if replica.get("state") in _SERVING]
    messages = [text for text in (deployment.get("message"), app.get("message")) if text]
    deleting = app.get("status") == "DELETING"
    return ApplicationFacts(
        name=name,
        status=str(app.get("status")),
        message="\n".join(messages),
        target=int(deployment.get("target_num_replicas") or 0),
        running=len(running),
        recovering=any(replica.get("state") == "RECOVERING" for replica in replicas),
        nodes=frozenset(str(replica["node_ip"]) for replica in running if replica.get("node_ip")),
        placed=tuple(sorted(str(replica["node_ip"]) for replica in replicas if replica.get("node_ip"))),
        config=None if deleting else app.get("deployed_app_config"),
    )
