"""ModelServices from a manifest file, and what a replica on this machine needs to serve them.

The same models and rules as the operator's, so that a file that works here is one that the API server accepts.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ValidationError

from modelyard_operator.api.base import API_VERSION, GROUP, explain
from modelyard_operator.api.model_service import ModelService
from modelyard_operator.api.quantity import parse_duration
from modelyard_operator.desired.resolution import CLAIM_SCHEME, spec_hash
from modelyard_serving.contract import CacheConfig, ModelConfig, ReplicaConfig, Task

KIND = "ModelService"
TOP_LEVEL = {"apiVersion", "kind", "metadata", "spec", "status"}
CPU_POOL = "cpu"
Device = Literal["cpu", "cuda"]


class InvalidManifest(Exception):
    """A manifest that cannot be served; the text names file, document and field."""


def read_services(file: Path) -> tuple[list[ModelService], list[str]]:
    """The ModelServices of a file, and notes on the documents that only a cluster needs.

    Raises:
        InvalidManifest: a document is wrong, or none is a ModelService.
    """
    try:
        documents = list(yaml.safe_load_all(file.read_text()))
    except OSError as error:
        raise InvalidManifest(f"{file}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidManifest(f"{file}: not YAML: {' '.join(str(error).split())}") from error
    services: dict[tuple[str, str], ModelService] = {}
    notes = []
    for number, document in enumerate(documents, 1):
        if document is None:
            continue
        where = f"{file}, document {number}"
        if not isinstance(document, dict):
            raise InvalidManifest(f"{where}: not an object with apiVersion and kind")
        kind, version = document.get("kind"), str(document.get("apiVersion"))
        if kind != KIND or not version.startswith(f"{GROUP}/"):
            notes.append(f"{where}: {version} {kind} is not needed on this machine")
            continue
        service = _read(document, where)
        key = service.metadata.namespace, service.metadata.name
        if key in services:
            raise InvalidManifest(f"{where}: metadata.name: {'/'.join(key)} is in this file twice")
        services[key] = service
    if not services:
        raise InvalidManifest("; ".join([f"{file}: no document is a {KIND} of {API_VERSION}", *notes]))
    return list(services.values()), notes


def replica_config(
    service: ModelService, volumes: Mapping[str, Path], device: Device | None, cache: Path
) -> ReplicaConfig:
    """The contract of a replica on this machine.

    `volumes` are the folders that stand in for claims, `cache` is where models from elsewhere are kept.

    Raises:
        InvalidManifest: nothing stands in for the claim, or the service is switched off.
    """
    spec = service.spec
    name = f"{service.metadata.namespace}/{service.metadata.name}"
    if spec.suspend or spec.replicas == 0:
        raise InvalidManifest(f"{name}: spec.{'suspend' if spec.suspend else 'replicas'} says that it must not run")
    uri = spec.model.source.uri
    path = _path_on_claim(name, uri, volumes) if uri.startswith(CLAIM_SCHEME) else None
    return ReplicaConfig(
        service=name,
        revision=spec_hash(spec),
        model=ModelConfig(uri=uri, path=path or "", task=Task(spec.model.task) if spec.model.task else None),
        cache=CacheConfig(path=str(cache)) if path is None else None,
        device=device or ("cpu" if spec.accelerator.pool == CPU_POOL else "cuda"),
        request_timeout_s=parse_duration(spec.request_timeout),
    )


def _path_on_claim(name: str, uri: str, volumes: Mapping[str, Path]) -> str:
    claim, _, folder = uri.removeprefix(CLAIM_SCHEME).partition("/")
    if claim not in volumes:
        given = f"given: {', '.join(volumes)}" if volumes else "none is given"
        raise InvalidManifest(
            f"{name}: spec.model.source.uri names the claim {claim!r}; say which folder stands in for it: "
            f"--volume {claim}=DIRECTORY ({given})"
        )
    return str(volumes[claim] / folder)


def _read(document: dict[str, Any], where: str) -> ModelService:
    if document["apiVersion"] != API_VERSION:
        raise InvalidManifest(f"{where}: apiVersion: {document['apiVersion']} is not known; write {API_VERSION}")
    unknown = sorted(set(document) - TOP_LEVEL)
    if unknown:
        raise InvalidManifest(f"{where}: {unknown[0]}: unknown field")
    try:
        service = ModelService.model_validate(document)
    except ValidationError as error:
        raise InvalidManifest(f"{where}: {explain(error)}") from error
    if service.metadata.namespace:
        return service
    metadata = service.metadata.model_copy(update={"namespace": "default"})
    return service.model_copy(update={"metadata": metadata})
