"""How many replicas a revision should have."""

from typing import Any

from modelyard_operator.api.model_service import ModelServiceSpec
from modelyard_operator.api.quantity import parse_duration
from modelyard_operator.desired.revision import Phase


def is_stopped(spec: ModelServiceSpec) -> bool:
    """Whether the user took the service down: suspended, or a fixed number of zero."""
    return spec.suspend or spec.replicas == 0


def fixed_replicas(spec: ModelServiceSpec) -> int:
    """The number of replicas without autoscaling; one where the spec says nothing."""
    return 1 if spec.replicas is None else spec.replicas


def surge_replicas(spec: ModelServiceSpec, active_replicas: int) -> int:
    """How many replicas a candidate comes up with: as many as serve now (`active_replicas`), so that the switch loses
    no capacity, and at least one, so that it can prove itself.
    """
    auto = spec.autoscaling
    if auto is None:
        return max(1, fixed_replicas(spec))
    return min(max(auto.min_replicas, active_replicas, 1), auto.max_replicas)


def scaling(spec: ModelServiceSpec, phase: Phase, active_replicas: int, held_to: int | None = None) -> dict[str, Any]:
    """The fields of a Serve deployment that set its size.

    `held_to` bounds it while two revisions share what is there.
    """
    auto = spec.autoscaling
    bound = held_to if held_to is not None else 1000
    if auto is None:
        return {"num_replicas": min(bound, max(1, fixed_replicas(spec)))}
    least = surge_replicas(spec, active_replicas) if phase is Phase.CANDIDATE else auto.min_replicas
    least, most = min(bound, least), max(1, min(bound, auto.max_replicas))
    return {
        "autoscaling_config": {
            "min_replicas": least,
            "initial_replicas": max(least, 1),
            "max_replicas": most,
            "target_ongoing_requests": auto.target_ongoing_requests,
            "upscale_delay_s": parse_duration(auto.upscale_delay),
            "downscale_delay_s": parse_duration(auto.downscale_delay),
            # The window must not be longer than the delay that it decides, or load that is gone counts on.
            "look_back_period_s": min(30.0, max(2.0, parse_duration(auto.upscale_delay))),
        }
    }
