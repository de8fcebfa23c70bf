"""`modelyard status`: everything about one service, and the next thing to do."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from modelyard_operator.api.conditions import ConditionType
from modelyard_operator.api.model_service import ColdStart, PlanStep
from modelyard_operator.cli.advice import Advice, next_thing
from modelyard_operator.cli.cluster import Cluster, Connect
from modelyard_operator.cli.console import age, console, print_data, table, truth
from modelyard_operator.cli.failure import ExitCode, note, run_async
from modelyard_operator.cli.options import Context, Kubeconfig, Namespace, Output, connector
from modelyard_operator.cli.services import Service, find_service
from modelyard_operator.kube.client import EVENT, Manifest
from modelyard_operator.kube.errors import Forbidden

EXAMPLES = """
Examples:
  modelyard status smollm2                     in the context's namespace
  modelyard status smollm2 -n team-a           in another one
  modelyard status smollm2 -o json             for programs
  modelyard status smollm2 >/dev/null && ...   exit code 0 only when it is Ready, 3 when it is not
"""

PHASES = ("provisioning", "scheduling", "image", "ray_join", "download", "imports", "load", "warmup", "proof")
_BAR = 40
_EVENTS = 10


def status(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="The service.")],
    namespace: Namespace = None,
    output: Annotated[Output, typer.Option("--output", "-o", help="table, json or yaml.")] = Output.TABLE,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Show one service: conditions, revisions, replicas, last cold start, recent events, what to do next."""
    run_async(_status(connector(ctx), name, namespace, output, kubeconfig, context))


async def _status(
    connect: Connect, name: str, namespace: str | None, output: Output, kubeconfig: Path | None, context: str | None
) -> ExitCode:
    async with connect(kubeconfig, context) as cluster:
        service = await find_service(cluster, name, namespace or cluster.namespace)
        events = await _events(cluster, service)
    if output is Output.TABLE:
        _print(service, events, datetime.now(UTC))
    else:
        print_data(_document(service, events), output)
    return ExitCode.OK if service.is_ready else ExitCode.NOT_READY


async def _events(cluster: Cluster, service: Service) -> list[Manifest]:
    """The newest Events of `service`, oldest first; none where the user may not see Events."""
    try:
        found = await cluster.kube.list(EVENT, namespace=service.namespace)
    except Forbidden:
        note("Events are not shown: the role does not allow to list them.")
        return []
    uid = service.manifest["metadata"]["uid"]
    own = [event for event in found if event["involvedObject"].get("uid") == uid]
    return sorted(own, key=_event_time)[-_EVENTS:]


def _event_time(event: Manifest) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"]["creationTimestamp"])


def _document(service: Service, events: list[Manifest]) -> dict[str, Any]:
    advice = next_thing(service)
    shown = [
        {"time": _event_time(event), **{field: event.get(field) for field in ("type", "reason", "message")}}
        for event in events
    ]
    return {
        "service": f"{service.namespace}/{service.name}",
        "ready": service.is_ready,
        "status": service.manifest.get("status") or {},
        "events": shown,
        "next": {"do": advice.sentence, "command": advice.command},
    }


def _print(service: Service, events: list[Manifest], now: datetime) -> None:
    out = console()
    out.print(_title(service))
    out.print(table(("", ""), _facts(service, now)), _heading("Conditions"), _conditions(service, now))
    if service.status.revisions:
        rows = [(r.name, r.phase, f"{r.traffic} %", r.message) for r in service.status.revisions]
        out.print(_heading("Revisions"), table(("REVISION", "PHASE", "TRAFFIC", "MESSAGE"), rows))
    if service.status.plan:
        steps = [(step.step, _expected(step)) for step in service.status.plan]
        out.print(_heading("Plan"), table(("STEP", "TIME"), steps))
    if service.status.cold_start is not None:
        _print_cold_start(service.status.cold_start)
    if events:
        told = [
            (age(datetime.fromisoformat(_event_time(event)), now), event["type"], event["reason"], event["message"])
            for event in events
        ]
        out.print(_heading("Events"), table(("AGE", "TYPE", "REASON", "MESSAGE"), told))
    _print_advice(next_thing(service))


def _expected(step: PlanStep) -> str:
    if step.seconds is not None:
        return f"about {step.seconds:g} s, as the last time"
    return f"at most {step.at_most:g} s" if step.at_most is not None else "not known"


def _title(service: Service) -> Text:
    ready = service.ready
    title = Text(f"{service.namespace}/{service.name}  ", style="bold")
    if ready is None:
        return title.append("not looked at yet", style="yellow")
    return title.append(ready.reason, style="green" if service.is_ready else "red").append(f"  {ready.message}", "none")


def _heading(text: str) -> Text:
    return Text(f"\n{text}", style="bold")


def _facts(service: Service, now: datetime) -> list[tuple[str, str]]:
    spec, status = service.manifest["spec"], service.status
    scaling = spec.get("autoscaling")
    if scaling is not None:
        size = f"autoscaling {scaling.get('minReplicas', 1)} to {scaling['maxReplicas']}"
    else:
        size = f"fixed at {spec.get('replicas', 1)}"
    return [
        ("Model", spec["model"]["source"]["uri"]),
        ("URL", status.url or "-"),
        ("Replicas", f"{status.replicas} of {status.desired_replicas} serve ({size})"),
        ("Workers", f"{status.worker_shape or '-'} of ServingCluster {status.serving_cluster or '-'}"),
        ("Age", f"{age(service.created, now)}; revision {status.active_revision or '-'} for "
                f"{age(status.last_change, now)}"),
    ]  # fmt: skip


def _conditions(service: Service, now: datetime) -> Any:
    bad = {ConditionType.DEGRADED: "True", ConditionType.PROGRESSING: ""}
    rows = [
        (each.type.value, truth(each.status, bad=bad.get(each.type, "False")), each.reason,
         age(each.last_transition_time, now), each.message)
        for each in service.status.conditions
    ]  # fmt: skip
    return table(("TYPE", "STATUS", "REASON", "SINCE", "MESSAGE"), rows)


def _print_cold_start(ledger: ColdStart) -> None:
    spent = [(phase, getattr(ledger, phase)) for phase in PHASES]
    known = [(phase.replace("_", " "), seconds) for phase, seconds in spent if seconds is not None]
    longest = max((seconds for _, seconds in known), default=0.0)
    rows = [
        (phase, Text(f"{seconds:.1f} s", justify="right"), "█" * round(_BAR * seconds / longest) if longest else "")
        for phase, seconds in known
    ]
    total = "" if ledger.total is None else f": {ledger.total:.1f} s"
    console().print(_heading(f"Cold start of revision {ledger.revision}{total}"), table(("", "", ""), rows))


def _print_advice(advice: Advice) -> None:
    console().print(_heading("Next"), Text(advice.sentence), Text(f"  {advice.command}", style="cyan"), sep="\n")
