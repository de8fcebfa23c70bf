"""Services that misbehave beside good ones, on a ServingCluster that two namespaces share: only they suffer, and they
heal when their cause is gone."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from e2e.cluster import SYSTEM, Service, get, items, kubectl, make_serving_cluster, replica_processes, until
from e2e.conftest import RESIDENTS
from e2e.traffic import Load, post

if TYPE_CHECKING:
    from e2e.conftest import Maker, Resident

LONG_CONTEXT = 20_000
"""Positions: attention that writes out its weights takes 10 GB for so many, more than a small worker has."""
RULES = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/x-kubernetes-validations"
CRD = "modelservices.modelyard.dev"


@pytest.mark.timeout(900)
@pytest.mark.skipif("MODELYARD_E2E_MODELS" not in os.environ, reason="stops a process of the one-node cluster")
def test_only_they_suffer(make: "Maker", resident: "Resident", models_folder: Path) -> None:
    """One eats all its memory, one never answers, one crashes when it loads, one cannot be read any more, one may not
    be there; clients ask a good one, and the one that cannot be read."""
    folder = models_folder / "hungry"
    _make_hungry(models_folder / "gpt2-small", folder)
    eater, silent, odd = make("eater", "pvc://models/hungry"), make("silent"), make("odd")
    frozen: set[int] = set()
    try:
        for service in (eater, silent, odd):
            service.settled(within=300)
        with (
            Load(resident.url, resident.body) as load,
            Load(make.url(odd), {**resident.body, "model": odd.model}, clients=4) as odds,
        ):
            crashing = make("crashing", "pvc://models/no-such-model")
            frozen = _freeze(silent)
            long = {"model": eater.model, "prompt": "word " * (LONG_CONTEXT - 100), "max_tokens": 1}
            status, _ = post(make.url(eater), long)
            assert status >= 500
            _make_unreadable(odd)
            _refuse(make)
            make("newcomer").wait()
            crashing.wait_reason("Degraded", "ModelNotFound", within=120)
            # Ray Serve finds the frozen replica by its health check and starts another one.
            until("another replica", lambda: replica_processes(silent.model) - frozen, within=150)
            for service in (eater, silent):
                service.wait(within=120)
                status, answer = post(make.url(service), {**resident.body, "model": service.model})
                assert status == 200, answer
        assert load.failures == []
        assert odds.failures == []
        assert resident.service.condition("Available")["status"] == "True"
        print(f"{load.count} requests, slowest {load.slowest_s:.2f} s")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        # Ray ends a replica by asking it, which one that is stopped does not hear: it would hold its RayCluster.
        for pid in frozen & replica_processes(silent.model):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.timeout(60)
def test_the_dashboard_wants_its_token(resident: "Resident") -> None:
    head = items("pods", SYSTEM, "ray.io/node-type=head")[0]
    status, _ = post(f"http://{head['status']['podIP']}:8265/api/serve/applications/", {"applications": []})
    assert status == 401


def _freeze(service: Service) -> set[int]:
    """Stops the service's replica; gives its process."""
    frozen = replica_processes(service.model)
    assert frozen
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    return frozen


def _make_unreadable(service: Service) -> None:
    with _without_rules():
        until("the invalid spec to be taken", lambda: _made_invalid(service.name, service.namespace), within=30)
    service.wait_reason("Accepted", "InvalidSpec")


def _refuse(make: "Maker") -> None:
    """A service of another namespace than those that the ServingCluster allows."""
    make_serving_cluster(RESIDENTS, "private")
    refused = make("refused", servingCluster={"name": "private", "namespace": RESIDENTS})
    told = refused.wait_reason("Accepted", "NamespaceNotAllowed", within=30)
    assert make.namespace in told["message"]
    kubectl("delete", "servingcluster", "private", "-n", RESIDENTS, "--wait=false")


def _make_hungry(tokenizer_of: Path, target: Path) -> None:
    """A GPT-NeoX of random weights with plain attention: only the engine for every model takes it, and computes a
    prompt at once."""
    from transformers import AutoTokenizer, GPTNeoXConfig, GPTNeoXForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_of)
    config = GPTNeoXConfig(
        vocab_size=len(tokenizer), hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128,
        max_position_embeddings=LONG_CONTEXT, bos_token_id=0, eos_token_id=0, attn_implementation="eager",
    )  # fmt: skip
    GPTNeoXForCausalLM(config).save_pretrained(target)
    tokenizer.save_pretrained(target)
    facts = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(facts | {"attn_implementation": "eager"}))
    for file in target.iterdir():
        file.chmod(0o644)


@contextmanager
def _without_rules() -> Iterator[None]:
    """As before the rules of a ModelService's fields were there."""
    found = get("crd", CRD)
    assert found is not None
    spec = found["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    _patch_crd({"op": "remove", "path": RULES})
    try:
        yield
    finally:
        _patch_crd({"op": "add", "path": RULES, "value": spec["x-kubernetes-validations"]})


def _patch_crd(operation: dict[str, Any]) -> None:
    kubectl("patch", "crd", CRD, "--type=json", "-p", json.dumps([operation]))


def _made_invalid(name: str, namespace: str) -> bool:
    """Whether replicas and autoscaling together were accepted."""
    change = json.dumps({"spec": {"replicas": 1, "autoscaling": {"maxReplicas": 2}}})
    kubectl("patch", "modelservice", name, "-n", namespace, "--type=merge", "-p", change, check=False)
    found = get("modelservice", name, namespace)
    return found is not None and "autoscaling" in found["spec"]
