"""The API server and the models draw the line at the same place: many odd values, sent to both."""

import random
import re

import pytest
from pydantic import ValidationError
from tests.contract.manifests import SMALL, Manifest, cluster, cpu_pool, gpu_pool, service
from tests.kubectl import Kubectl

from modelyard_operator.api.crd import KINDS

MODELS = {kind.name: kind.model for kind in KINDS}
SEEDS = {
    "uri": ("pvc://models/smollm2", "pvc://m/a/b.c/d_e-f", "pvc://" + "a" * 50 + "/b"),
    "duration": ("1h30m", "1s", "24h", "0.5h", "90s", "1000ms", "86400s", "23h59m60s"),
    "memory": ("2Gi", "512Mi", "1.5Gi", "0.5G", "100", "00.10k", "1000000000000000"),
    "cpu": ("500m", "2", "0.5", "00.5", "1.5m", "0010"),
    "version": ("2.60.0", "2.61.1", "2.100.12", "2.99.999"),
    "resource": ("nvidia.com/gpu", "amd.com/gpu.shared", "a/b"),
    "proxy": ("http://proxy:3128", "https://a.b/", "http://[::1]:80"),
    "name": ("smollm2", "a", "7b-chat", "a" * 40, "a--b"),
}
ALPHABET = "aZ09.-_/:@ 0m\nsGié"
COPIES = 12


def _variations(field: str) -> list[str]:
    """The seeds, and each of them with a character or two changed, put in or taken out; always the same ones."""
    chance = random.Random(field)
    found = list(SEEDS[field])
    for seed in SEEDS[field]:
        for _ in range(COPIES):
            text = list(seed)
            for _ in range(chance.choice((1, 1, 2))):
                place = chance.randrange(len(text) + 1)
                text[place : place + chance.choice((0, 1))] = chance.choice((*ALPHABET, ""))
            found.append("".join(text))
    return sorted(set(found) - {""})


def _manifest(field: str, value: str) -> Manifest:
    match field:
        case "uri":
            return service(uri=value)
        case "duration":
            return service(requestTimeout=value, autoscaling={"maxReplicas": 1, "upscaleDelay": value})
        case "memory" | "cpu":
            return cpu_pool(shapes=[SMALL | {field: value}])
        case "version":
            return cluster(rayVersion=value)
        case "resource":
            return gpu_pool(resourceName=value)
        case "proxy":
            return cluster(proxy={"httpProxy": value})
        case _:
            return service(accelerator={"pool": value}, servingCluster={"name": value})


def _is_model(manifest: Manifest) -> bool:
    try:
        MODELS[manifest["kind"]].model_validate(manifest)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize("field", SEEDS)
def test_both_take_the_same_values(kubectl: Kubectl, field: str) -> None:
    values = _variations(field)
    manifests = [_manifest(field, value) for value in values]
    for number, manifest in enumerate(manifests):
        manifest["metadata"]["name"] = f"value-{number}"
    answer = kubectl("create", "--dry-run=server", "-f", "-", manifest=manifests)
    taken = {int(number) for number in re.findall(r"/value-(\d+) created", answer.out)}
    by_server = {value: number in taken for number, value in enumerate(values)}
    by_model = {value: _is_model(manifest) for value, manifest in zip(values, manifests, strict=True)}
    assert by_model == by_server
    assert {True, False} <= set(by_server.values())
