"""The process that downloads: an order on standard input, entries for the journal on standard output.

The last entry is `landed` or `failed`. After `landed` it stays until its input says something or ends, so that nobody
can remove the model before the caller holds it.
"""

import json
import os
import sys
from typing import Any

from modelyard_serving.contract import FailureReason
from modelyard_serving.failure import StartFailure
from modelyard_serving.sources.cache import Cache
from modelyard_serving.sources.order import Download, Order
from modelyard_serving.sources.origin import Origin


def tell(event: str, **fields: Any) -> None:
    """Write an entry; end where nobody reads it any more: what is there is kept, and the locks go by themselves."""
    try:
        os.write(sys.stdout.fileno(), (json.dumps({"event": event, **fields}) + "\n").encode())
    except BrokenPipeError:
        os._exit(1)


def origin_of(uri: str) -> Origin:
    """Where `uri` points to; imports only what that needs, for the hub's library takes a second."""
    if uri.startswith("s3://"):
        from modelyard_serving.sources.bucket import Bucket

        return Bucket(uri)
    if uri.startswith("oci://"):
        from modelyard_serving.sources.artifact import Artifact

        return Artifact(uri)
    from modelyard_serving.sources.hub import HubRepository

    return HubRepository(uri)


def main() -> None:
    order = Order.model_validate_json(sys.stdin.readline())
    try:
        cache = Cache(order.root, order.limit_bytes, source=order.uri)
        with Download(order, origin_of(order.uri), cache, tell).stored() as key:
            tell("landed", key=key)
            sys.stdin.readline()
    except StartFailure as failure:
        tell("failed", reason=failure.reason.value, message=failure.message)
    except OSError as error:
        message = f"{order.uri}: the cache at {order.root} fails: {error}"
        tell("failed", reason=FailureReason.CACHE_NOT_WRITABLE.value, message=message)


if __name__ == "__main__":
    main()
