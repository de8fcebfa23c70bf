"""What can go wrong at the API server.

KubeError
 ├─ Forbidden       401 or 403: RBAC lacks something; the message says verb and resource
 ├─ Conflict        409: the object changed since it was read; read again
 │   └─ AlreadyExists
 ├─ Invalid         400 or 422: the API server refuses the manifest; trying again is no use
 ├─ KindAbsent      404 on a kind: its CRD is not installed
 └─ Unavailable     no connection, a timeout, 429 or 5xx: try again later
"""


class KubeError(Exception):
    """A request to the API server that failed."""


class Forbidden(KubeError):
    """RBAC does not allow it."""


class Conflict(KubeError):
    """The object changed since it was read."""


class AlreadyExists(Conflict):
    """The name is taken."""


class Invalid(KubeError):
    """The API server refuses the manifest."""


class KindAbsent(KubeError):
    """The kind's CRD is not installed."""


class Unavailable(KubeError):
    """The API server cannot be asked now."""
