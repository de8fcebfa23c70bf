"""`python -P -m modelyard_operator.cleanup --timeout 100s`: deletes every ModelService, then every ServingCluster.

For uninstalling: they carry the operator's finalizer, so they can only go while it still runs. Services go first,
for a ServingCluster waits for those that are bound to it.
"""

import argparse
import asyncio
import logging
import sys

from modelyard_operator import logs
from modelyard_operator.api.quantity import parse_duration
from modelyard_operator.kube.aio_client import connect
from modelyard_operator.kube.client import MODEL_SERVICE, SERVING_CLUSTER, Kind, KubeClient
from modelyard_operator.kube.errors import Conflict, KindAbsent, KubeError, Unavailable

logger = logging.getLogger(__name__)

ORDER = (MODEL_SERVICE, SERVING_CLUSTER)
_POLL_S = 1.0


async def put_away(kube: KubeClient, kind: Kind) -> None:
    """Delete all objects of `kind`, also those that are made meanwhile, and return when none is left."""
    while True:
        try:
            standing = await kube.list(kind)
            if not standing:
                return
            for manifest in standing:
                metadata = manifest["metadata"]
                if "deletionTimestamp" not in metadata:
                    await kube.delete(kind, metadata["name"], namespace=metadata["namespace"], uid=metadata["uid"])
                    logger.info("deleting %s %s/%s", kind.kind, metadata["namespace"], metadata["name"])
        except KindAbsent:
            return
        except (Conflict, Unavailable) as error:
            logger.warning("%s; trying again", error)
        await asyncio.sleep(_POLL_S)


async def run(timeout_s: float) -> None:
    """Put away everything in its order.

    Raises:
        TimeoutError: something is left after `timeout_s` seconds.
        KubeError: the API server refuses.
    """
    async with connect() as kube, asyncio.timeout(timeout_s):
        for kind in ORDER:
            await put_away(kube, kind)


async def left() -> list[str]:
    """What still stands, as `<kind> <namespace>/<name>`."""
    async with connect() as kube:
        return [
            f"{kind.kind} {manifest['metadata']['namespace']}/{manifest['metadata']['name']}"
            for kind in ORDER
            for manifest in await kube.list(kind)
        ]


def main(arguments: list[str] | None = None) -> int:
    """The exit code: 0 when everything is gone, 1 when something is left, with its names on standard error."""
    parser = argparse.ArgumentParser(prog="modelyard_operator.cleanup", description=__doc__)
    parser.add_argument("--timeout", type=parse_duration, default=100.0, help="for example 100s or 5m")
    options = parser.parse_args(arguments)
    logs.configure("INFO")
    try:
        asyncio.run(run(options.timeout))
    except TimeoutError:
        sys.stderr.write(
            f"Still there after {options.timeout:g} s: {', '.join(asyncio.run(left()))}. "
            "Is the operator running? Its log says what each waits for.\n"
        )
        return 1
    except KubeError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
