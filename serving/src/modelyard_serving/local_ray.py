"""Every call that local mode makes to Ray; the environment must be set before this module is imported."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import ray
from ray import serve

from modelyard_serving.app import deployment
from modelyard_serving.contract import ReplicaConfig

OBJECT_STORE_BYTES = 100 * 2**20
QUIET = {"log_level": "ERROR", "enable_access_log": False}
FAILED = ("DEPLOY_FAILED", "UNHEALTHY")


@dataclass(frozen=True)
class Application:
    """How a Serve application stands."""

    running: bool
    failure: str | None
    """What Ray Serve says, where it has given up."""


@contextmanager
def running_ray(folder: Path, *, host: str, port: int) -> Iterator[None]:
    """A Ray of this machine with Serve at `host:port`; its files are in `folder`. Gone when the context ends."""
    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    ray.init(
        address="local",
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=OBJECT_STORE_BYTES,
        _node_ip_address=host,
        _temp_dir=str(folder),
    )
    try:
        serve.start(proxy_location="HeadOnly", http_options={"host": host, "port": port}, logging_config=QUIET)
        yield
    finally:
        ray.shutdown()


def deploy(configs: Sequence[ReplicaConfig]) -> None:
    """Hand every model to Serve, at its public path; returns before they are loaded."""
    targets = [
        serve.RunTarget(
            deployment.options(
                user_config=config.as_user_config(),
                max_ongoing_requests=1000,  # the queue and the 429 are the replica's own
                ray_actor_options={"num_cpus": 0},
                logging_config=QUIET,
            ).bind(),
            name=_name(config),
            route_prefix=f"/{config.service}",
        )
        for config in configs
    ]
    serve.run_many(targets, wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)


def application(config: ReplicaConfig) -> Application:
    """How the application of `config` stands now."""
    found = serve.status().applications.get(_name(config))
    if found is None:
        return Application(running=False, failure=None)
    text = "\n".join([found.message, *(each.message for each in found.deployments.values())])
    return Application(running=found.status == "RUNNING", failure=text if found.status in FAILED else None)


def _name(config: ReplicaConfig) -> str:
    return config.service.replace("/", ".")
