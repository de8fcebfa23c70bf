"""Archives that torch.export.load would run something of: none of it is loaded."""

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.unit.serving.tiny import config_for
from tests.unit.serving.tiny_program import DIGITS, PROGRAM, write_digits

from modelyard_serving.contract import FailureReason
from modelyard_serving.failure import StartFailure
from modelyard_serving.journal import Journal
from modelyard_serving.models.program_archive import UnsafeProgram, check_archive
from modelyard_serving.package.writing import write_package
from modelyard_serving.replica import Replica

GRAPH = "models/model.json"
SAMPLES = "data/sample_inputs/model.pt"
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"
Change = Callable[[dict[str, bytes]], None]


class Evil:
    """Unpickling it runs a command."""

    def __reduce__(self) -> Any:
        return os.system, ("false",)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("programs") / "digits")


def _saved(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def _document(name: str, change: Callable[[Any], Any]) -> Change:
    """The archive with a change in one of its JSON documents."""

    def apply(entries: dict[str, bytes]) -> None:
        document = json.loads(entries[name])
        change(document)
        entries[name] = json.dumps(document).encode()

    return apply


def _entry(name: str, content: bytes) -> Change:
    return lambda entries: entries.update({name: content})


def _node(graph: Any, place: int = 0) -> Any:
    return graph["graph_module"]["graph"]["nodes"][place]


def _expression(text: str) -> Change:
    def change(graph: Any) -> None:
        graph["graph_module"]["graph"]["tensor_values"]["image"]["sizes"][0]["as_expr"]["expr_str"] = text

    return _document(GRAPH, change)


def _rename(graph: Any) -> None:
    text = json.dumps(graph).replace('"image"', json.dumps("image): __import__('os').system('false') #"))
    graph.clear()
    graph.update(json.loads(text))


UNSAFE: list[tuple[str, Change, str]] = [
    ("pickled samples", _entry(SAMPLES, _saved(((Evil(),), {}))), "its sample inputs are more than tensors"),
    (
        "pickled weight",
        _document(WEIGHTS, lambda found: found["config"]["linear.weight"].update(use_pickle=True)),
        "linear.weight is pickled",
    ),
    (
        "pickled constant",
        _document(CONSTANTS, lambda all_: all_["config"].update(x={"path_name": "opaque_obj_0", "use_pickle": False})),
        "path_name 'opaque_obj_0', which is not allowed",
    ),
    ("an object", _entry("data/constants/custom_obj_0", pickle.dumps(Evil())), "it has data/constants/custom_obj_0"),
    ("weights of before", _entry("data/weights/model.pt", _saved(Evil())), "it has data/weights/model.pt"),
    ("compiled code", _entry("data/aotinductor/model/x.so", b"\x7fELF"), "it has data/aotinductor/model/x.so"),
    ("the old format", _entry("/version", b"8.20"), "it is of an old format, which is pickled"),
    ("a second program", _entry("models/other.json", b"{}"), "it has models/other.json"),
    ("an expression", _expression("__import__('os').system('false')"), "expr_str"),
    ("an attribute", _expression("Symbol('s0').__class__"), "expr_str"),
    ("a function", _expression("eval('1')"), "expr_str"),
    ("a hidden text", _expression("Symbol('__import__(\"os\")')"), "expr_str"),
    ("no expression", _expression("1 +"), "expr_str"),
    (
        "a function of Python",
        _document(GRAPH, lambda graph: _node(graph).update(target="torch.os.system")),
        "target 'torch.os.system', which is not allowed",
    ),
    (
        "reading a file",
        _document(GRAPH, lambda graph: _node(graph).update(target="torch.ops.aten.from_file.default")),
        "target 'torch.ops.aten.from_file.default', which is not allowed",
    ),
    (
        "writing a file",
        _document(GRAPH, lambda graph: _node(graph).update(target="torch.ops.aten.save.default")),
        "target 'torch.ops.aten.save.default', which is not allowed",
    ),
    (
        "an operator of others",
        _document(GRAPH, lambda graph: _node(graph).update(target="torch.ops.mine.op.default")),
        "target 'torch.ops.mine.op.default', which is not allowed",
    ),
    (
        "a key that is code",
        _document(GRAPH, lambda graph: graph["graph_module"]["graph"]["tensor_values"].update({"x): exit(": {}})),
        r"models/model.json has the name 'x\): exit\('",
    ),
    ("a name that is code", _document(GRAPH, _rename), "which is none; export the program again|which is not allowed"),
    (
        "a class among arguments",
        _document(
            GRAPH,
            lambda graph: graph["graph_module"]["module_call_graph"][0]["signature"].update(
                out_spec='[1, {"type": "collections.namedtuple", "context": "[]", "children_spec": []}]'
            ),
        ),
        "out_spec",
    ),
    (
        "an argument that is code",
        _document(
            GRAPH,
            lambda graph: graph["graph_module"]["module_call_graph"][0]["signature"].update(
                in_spec='[1, {"type": "builtins.dict", "context": "[\\"a=exit()\\"]", "children_spec": []}]'
            ),
        ),
        "in_spec",
    ),
    ("a condition", _document(GRAPH, lambda graph: graph.update(guards_code=["exit()"])), r"only where 'exit\("),
    ("not JSON", _entry(GRAPH, b"{"), "models/model.json is not JSON"),
    ("no object", _entry(GRAPH, b"[]"), "models/model.json is not an object"),
]  # fmt: skip


def _rewrite(file: Path, change: Change, to: Path) -> Path:
    with zipfile.ZipFile(file) as archive:
        root = archive.namelist()[0].partition("/")[0]
        entries = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    change(entries)
    with zipfile.ZipFile(to, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name.lstrip("/") if name.startswith("/") else f"{root}/{name}", content)
    return to


@pytest.mark.parametrize(("change", "told"), [pytest.param(change, told, id=name) for name, change, told in UNSAFE])
def test_nothing_that_would_run_is_loaded(whole: Path, tmp_path: Path, change: Change, told: str) -> None:
    with pytest.raises(UnsafeProgram, match=told):
        check_archive(_rewrite(whole / PROGRAM, change, tmp_path / PROGRAM))


def test_numbers_without_end_are_numbers(tmp_path: Path) -> None:
    class Masked(torch.nn.Module):
        def forward(self, scores: torch.Tensor) -> torch.Tensor:
            return scores.masked_fill(scores < 0, float("-inf")).nan_to_num(posinf=float("inf"))

    torch.export.save(torch.export.export(Masked(), (torch.ones(2),)), tmp_path / "masked.pt2")
    check_archive(tmp_path / "masked.pt2")


def test_a_whole_program_passes_also_when_it_is_packed_anew(whole: Path, tmp_path: Path) -> None:
    check_archive(_rewrite(whole / PROGRAM, lambda entries: None, tmp_path / PROGRAM))


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 cut"])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / PROGRAM).write_bytes(content)
    with pytest.raises(UnsafeProgram, match="it is not an archive of"):
        check_archive(tmp_path / PROGRAM)


async def test_a_replica_does_not_start_with_one(whole: Path, tmp_path: Path) -> None:
    _rewrite(whole / PROGRAM, _expression("eval('1')"), tmp_path / PROGRAM)
    write_package(tmp_path, {"task": "tensor", "program": PROGRAM, "signature": DIGITS})
    with pytest.raises(StartFailure, match=r"model\.pt2 is not loaded: models/model\.json has expr_str") as failed:
        await Replica(Journal.open()).configure(config_for(tmp_path))
    assert failed.value.reason is FailureReason.MODEL_INVALID
