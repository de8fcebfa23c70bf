"""From one document to the next, without HAProxy."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard_gateway.changes import Commands, InEffect, Reload, plan, plan_routes
from modelyard_gateway.haproxy_config import Ground, map_entries, render, render_map
from modelyard_gateway.placement import Endpoint, place, same_shape
from modelyard_gateway.routes import Backend, Refusal, Route, RouteDocument, Server

MAP = Path("/state/routes.map")
GROUND = Ground(state_dir=Path("/state"), listen_port=8000, threads=2, max_connections=100)


def cluster(*addresses: str, head: str | None = None, name: str = "platform.ray") -> Backend:
    servers = [Server(name=f"pod-{n}", address=address) for n, address in enumerate(addresses)]
    return Backend(name=name, servers=(*servers, *([Server(name="head", address=head, backup=True)] if head else [])))


def in_effect(document: RouteDocument) -> InEffect:
    placement = place(document.backends, {})
    return InEffect(entries=map_entries(document, placement), placement=placement)


def commands(before: RouteDocument, after: RouteDocument) -> list[str]:
    step = plan(in_effect(before), after, MAP)
    assert isinstance(step, Commands)
    return list(step.lines)


ONE = Route(path="/a/one", backend="platform.ray", prefix="/_r/a/one/r1", timeout_s=60)
BEFORE = RouteDocument(backends=(cluster("10.0.0.1", "10.0.0.2", head="10.0.0.9"),), routes=(ONE,))


def test_what_is_in_effect_needs_nothing() -> None:
    assert commands(BEFORE, BEFORE) == []


def test_servers_arrive_before_routes_and_leave_after_them() -> None:
    after = RouteDocument(
        backends=(cluster("10.0.0.2", "10.0.0.3", head="10.0.0.9"),),
        routes=(Route(path="/a/two", backend="platform.ray", prefix="/_r/a/two/r1"),),
    )
    assert commands(BEFORE, after) == [
        "set server platform.ray/w3 addr 10.0.0.3 port 8000",
        "set server platform.ray/w3 state ready",
        "add map /state/routes.map a/two route|platform.ray|/_r/a/two/r1|3600000|r1",
        "del map /state/routes.map a/one",
        "set server platform.ray/w1 state maint",
    ]


def test_a_switch_of_revision_is_one_command() -> None:
    after = BEFORE.model_copy(update={"routes": (ONE.model_copy(update={"prefix": "/_r/a/one/r2"}),)})
    assert commands(BEFORE, after) == ["set map /state/routes.map a/one route|platform.ray|/_r/a/one/r2|60000|r2"]


def own(*servers: str) -> RouteDocument:
    """BEFORE, with servers of its own for its service."""
    return BEFORE.model_copy(update={"routes": (ONE.model_copy(update={"servers": servers}),)})


@pytest.mark.parametrize(
    ("servers", "fields"),
    [
        ((), ""),
        (("pod-0",), "|1|w1:w1"),
        (("pod-0", "pod-1"), "|2|w1:w2:w1:w2"),
        (("pod-1", "pod-7"), "|1|w2:w2"),
        (("pod-7",), ""),
    ],
    ids=["none", "one", "two", "one that is not there", "only one that is not there"],
)
def test_own_servers_stand_in_the_map_by_their_slots(servers: tuple[str, ...], fields: str) -> None:
    document = own(*servers)
    entries = map_entries(document, place(document.backends, {}))
    assert entries == {"a/one": f"route|platform.ray|/_r/a/one/r1|60000|r1{fields}"}


def test_other_own_servers_are_one_command() -> None:
    for before, after in ((own(), own("pod-0")), (own("pod-0"), own("pod-0", "pod-1")), (own("pod-1"), own())):
        [line] = commands(before, after)
        assert line.startswith("set map /state/routes.map a/one route|")


def test_an_own_server_arrives_before_it_is_asked_and_leaves_when_it_is_no_more() -> None:
    after = own("pod-1").model_copy(update={"backends": (cluster("10.0.0.2", "10.0.0.3", head="10.0.0.9"),)})
    assert commands(own("pod-0"), after) == [
        "set server platform.ray/w3 addr 10.0.0.3 port 8000",
        "set server platform.ray/w3 state ready",
        "set map /state/routes.map a/one route|platform.ray|/_r/a/one/r1|60000|r1|1|w3:w3",
        "set server platform.ray/w1 state maint",
    ]


def test_a_worker_that_takes_no_servers_any_more_asks_those_that_it_has() -> None:
    more = own("pod-1", "pod-2").model_copy(update={"backends": (cluster("10.0.0.1", "10.0.0.2", "10.0.0.3"),)})
    elsewhere = (cluster("10.1.0.1", name="platform.blue"), cluster("10.0.0.1"))
    moved = ONE.model_copy(update={"backend": "platform.blue", "servers": ("pod-0",)})
    assert plan_routes(in_effect(BEFORE), more, MAP).lines == (
        "set map /state/routes.map a/one route|platform.ray|/_r/a/one/r1|60000|r1|1|w2:w2",
    )
    assert plan_routes(in_effect(BEFORE), RouteDocument(backends=elsewhere, routes=(moved,)), MAP).lines == (
        "set map /state/routes.map a/one route|platform.blue|/_r/a/one/r1|60000|r1",
    )


def test_a_refusal_takes_the_place_of_a_route_in_one_command() -> None:
    refusal = Refusal(path="/a/one", reason="Suspended", message="by its owner; \n set server x\\")
    after = BEFORE.model_copy(update={"routes": (), "refusals": (refusal,)})
    [line] = commands(BEFORE, after)
    assert line.startswith("set map /state/routes.map a/one refusal|")
    assert len(line.split()) == 5


def test_a_slot_that_must_be_used_again_at_once_is_taken_out_first() -> None:
    full = RouteDocument(backends=(cluster(*(f"10.0.0.{n}" for n in range(8))),))
    after = RouteDocument(backends=(cluster(*(f"10.0.0.{n}" for n in range(1, 9))),))
    assert commands(full, after) == [
        "set server platform.ray/w1 state maint",
        "set server platform.ray/w1 addr 10.0.0.8 port 8000",
        "set server platform.ray/w1 state ready",
    ]


def test_another_set_of_backends_or_more_slots_need_a_reload() -> None:
    another = BEFORE.model_copy(update={"backends": (*BEFORE.backends, cluster("10.1.0.1", name="platform.blue"))})
    outgrown = RouteDocument(backends=(cluster(*(f"10.0.0.{n}" for n in range(9))),))
    for before, after in ((BEFORE, another), (another, BEFORE), (BEFORE, outgrown)):
        step = plan(in_effect(before), after, MAP)
        assert isinstance(step, Reload)
    assert isinstance(step, Reload)
    assert len(step.placement["platform.ray"]) == 16 + 1
    assert step.placement["platform.ray"]["w1"] == Endpoint("10.0.0.1", 8000)


addresses = st.lists(st.integers(1, 40).map(lambda n: f"10.0.0.{n}"), unique=True, max_size=20)


@given(before=addresses, after=addresses)
def test_every_server_has_one_slot_and_keeps_it(before: list[str], after: list[str]) -> None:
    first = place((cluster(*before),), {})
    second = place((cluster(*after),), first)
    placed = [endpoint.address for endpoint in second["platform.ray"].values() if endpoint]
    assert sorted(placed) == sorted(after)
    stayed = {slot for slot, endpoint in first["platform.ray"].items() if endpoint and endpoint.address in after}
    assert all(second["platform.ray"][slot] == first["platform.ray"][slot] for slot in stayed)
    assert same_shape(first, second) or len(after) > len(first["platform.ray"]) - 1
    assert place((cluster(*after),), second) == second


def test_texts_do_not_depend_on_order() -> None:
    blue = cluster("fd00::1", name="platform.blue")
    two = Route(path="/a/two", backend="platform.blue", prefix="/_r/a/two/r1")
    one_way = RouteDocument(backends=(*BEFORE.backends, blue), routes=(ONE, two))
    other_way = RouteDocument(backends=(blue, *BEFORE.backends), routes=(two, ONE))
    placements = [place(document.backends, {}) for document in (one_way, other_way)]
    assert render_map(one_way, placements[0]) == render_map(other_way, placements[1])
    texts = [render(placement, GROUND) for placement in placements]
    assert texts[0] == texts[1]
    assert "server w1 [fd00::1]:8000\n" in texts[0]
    assert "server h1 10.0.0.9:8000 backup\n" in texts[0]
    assert "<" not in texts[0]
