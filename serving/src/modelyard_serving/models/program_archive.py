"""What may be in a `.pt2` file, before torch reads it.

torch.export.load unpickles some parts of the archive, evaluates others as Python and resolves names to whatever torch
has under them (docs/design/programs.md says where). Everything but tensors' bytes, the operators of a
graph and the names of its values is refused here. Source of the format: torch/_export/serde/schema.py and
torch/export/pt2_archive/_package.py of torch 2.15.
"""

import ast
import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.export.pt2_archive import PT2ArchiveReader

GRAPH = "models/model.json"
SAMPLES = "data/sample_inputs/model.pt"
CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
RECORD = re.compile(
    r"archive_format|archive_version|byteorder|\.data/(version|serialization_id)|models/model\.json|"
    r"data/sample_inputs/model\.pt|data/(weights/weight|constants/tensor)_\d+|"
    r"data/(weights/model_weights|constants/model_constants)_config\.json"
)
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)*")
TARGET = re.compile(
    r"torch\.ops\.(aten|prims)\.\w+\.\w+|_operator\.(eq|ne|le|ge|lt|gt|neg|pos|mul|add|sub|floordiv|mod|pow|"
    r"truediv|and_|or_|lshift|rshift|not_|getitem)|math\.trunc|torch\.sym_\w+|"
    r"torch\.ops\.higher_order\.(cond|while_loop|scan|map_impl|associative_scan|wrap_with_set_grad_enabled)"
)
EQUAL_SIZES = re.compile(r"(L(\['\w+'\])+\.size\(\)\[\d+\]) == (L(\['\w+'\])+\.size\(\)\[\d+\])")
FILE_OPERATORS = ("torch.ops.aten.from_file.", "torch.ops.aten.save.")
TREES = {"builtins.tuple", "builtins.list", "builtins.dict"}
EXPRESSION_NODES = (
    ast.Expression, ast.Call, ast.Name, ast.Load, ast.Constant, ast.keyword, ast.BinOp, ast.UnaryOp, ast.Compare,
    ast.BoolOp, ast.operator, ast.unaryop, ast.cmpop, ast.boolop,
)  # fmt: skip
EXPRESSION_FUNCTIONS = {
    "Symbol", "Integer", "Rational", "Add", "Mul", "Pow", "Max", "Min", "Mod", "And", "Or", "Not", "Eq", "Ne", "Le",
    "Lt", "Ge", "Gt", "Equality", "Unequality", "LessThan", "StrictLessThan", "GreaterThan", "StrictGreaterThan", "Abs",
    "floor", "ceiling", "FloorDiv", "ModularIndexing", "Where", "PythonMod", "CleanDiv", "CeilToInt", "FloorToInt",
    "CeilDiv", "PowByNatural", "IntTrueDiv", "FloatTrueDiv", "ToFloat", "TruncToInt", "Float", "Identity",
}  # fmt: skip
UNREAD = {"metadata", "guards_code", "as_string", "as_strings", "torch_version", "sym_str_values"}
"""What the loader neither evaluates nor resolves: texts that stay texts, and where a node came from."""


class UnsafeProgram(Exception):
    """The archive has a part that is not loaded; the text says which and what to do."""


def check_archive(file: Path) -> None:
    """Look at everything in the archive that is not a tensor's bytes.

    Raises:
        UnsafeProgram: it is no archive of torch.export.save, or has a part that would be unpickled, evaluated or run.
    """
    try:
        # The loader falls back to an older format, pickled, where it finds this entry.
        with zipfile.ZipFile(file) as archive:
            if "version" in archive.namelist():
                raise UnsafeProgram("it is of an old format, which is pickled; export it again with torch 2.8 or later")
        with PT2ArchiveReader(str(file)) as reader:
            names = reader.get_file_names()
            records = {name: reader.read_bytes(name) for name in (GRAPH, SAMPLES, *CONFIGS) if name in names}
    except (OSError, RuntimeError, zipfile.BadZipFile) as error:
        raise UnsafeProgram("it is not an archive of torch.export.save, or damaged; export it again") from error
    stray = next((name for name in names if not RECORD.fullmatch(name)), None)
    if stray is not None:
        raise UnsafeProgram(f"it has {stray}, which is compiled code, a pickled object or unknown; export it without")
    absent = next((name for name in (GRAPH, *CONFIGS) if name not in records), None)
    if absent is not None:
        raise UnsafeProgram(f"it has no {absent}: it is not an archive of torch.export.save")
    for name in CONFIGS:
        _check_payloads(name, _parse(name, records[name]))
    _check_samples(records.get(SAMPLES, b""))
    _check_graph(_parse(GRAPH, records[GRAPH]))


def _parse(name: str, content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UnsafeProgram(f"{name} is not JSON; export the program again") from error
    if not isinstance(document, dict):
        raise UnsafeProgram(f"{name} is not an object; export the program again")
    return document


def _check_payloads(name: str, document: dict[str, Any]) -> None:
    payloads = document.get("config")
    for key, payload in payloads.items() if isinstance(payloads, dict) else ():
        if not isinstance(payload, dict) or payload.get("use_pickle") is not False:
            raise UnsafeProgram(f"{key} is pickled: a tensor subclass or an object; export it with plain tensors")
    _check_values(name, document, {**_CHECKS, "path_name": _check_path})


def _check_path(text: str) -> bool:
    return re.fullmatch(r"(weight|tensor)_\d+", text) is not None


def _check_samples(content: bytes) -> None:
    """The loader itself unpickles the sample inputs without restraint where this fails."""
    if content:
        try:
            torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
        except Exception as error:  # whatever it is, the loader would go on to unpickle it
            raise UnsafeProgram("its sample inputs are more than tensors; export it with plain tensors") from error


def _check_graph(document: dict[str, Any]) -> None:
    # Python's source. It is never compiled (`module(check_guards=False)`): sizes that must be equal have one symbol,
    # to which the signature is held, and other conditions cannot be told to clients.
    guards = document.get("guards_code") or []
    condition = next((guard for guard in guards if not EQUAL_SIZES.fullmatch(str(guard))), None)
    if condition is not None:
        raise UnsafeProgram(f"it computes only where {condition!r}; export it for every size of its Dims")
    _check_values(GRAPH, document, _CHECKS)


def _check_values(where: str, value: Any, checks: dict[str, Callable[[str], bool]], key: str = "") -> None:
    """Hold every text below `value` to the check of its key; a text of another key must be a name."""
    if key in UNREAD:
        return
    if isinstance(value, dict):
        for inner, part in value.items():
            if inner and not NAME.fullmatch(inner):
                raise UnsafeProgram(f"{where} has the name {inner[:80]!r}, which is none; export the program again")
            _check_values(where, part, checks, inner)
    elif isinstance(value, list):
        for part in value:
            _check_values(where, part, checks, key)
    elif isinstance(value, str) and not checks.get(key, _is_name)(value):
        raise UnsafeProgram(f"{where} has {key} {value[:80]!r}, which is not allowed in a program that is served")


def _is_name(text: str) -> bool:
    return not text or NAME.fullmatch(text) is not None


def _is_target(text: str) -> bool:
    return TARGET.fullmatch(text) is not None and not text.startswith(FILE_OPERATORS)


def _is_expression(text: str) -> bool:
    """Whether sympy, which evaluates it as Python, finds only numbers, symbols and its own functions in it."""
    try:
        nodes = list(ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    for node in nodes:
        if not isinstance(node, EXPRESSION_NODES):
            return False
        if isinstance(node, ast.Call) and not (
            isinstance(node.func, ast.Name) and node.func.id in EXPRESSION_FUNCTIONS
        ):
            return False
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and not re.fullmatch(r"\w+", node.value):
            return False
    return True


def _is_tree(text: str) -> bool:
    """Whether a description of nested arguments has only tuples, lists and dicts with names as keys."""
    try:
        _, tree = json.loads(text)
        return _are_plain([tree])
    except (ValueError, TypeError, KeyError, RecursionError):
        return False


def _are_plain(trees: list[Any]) -> bool:
    for tree in trees:
        keys = json.loads(tree["context"]) if tree["context"] is not None else None
        if tree["type"] is not None and tree["type"] not in TREES:
            return False
        if keys is not None and not all(isinstance(key, str) and NAME.fullmatch(key) for key in keys):
            return False
        if not _are_plain(tree["children_spec"]):
            return False
    return True


def _is_float(text: str) -> bool:
    """What JSON has no number for (torch._export.serde.serialize.EnumEncoder)."""
    return text in ("Infinity", "-Infinity", "NaN")


_CHECKS: dict[str, Callable[[str], bool]] = {
    "as_float": _is_float,
    "as_floats": _is_float,
    "target": _is_target,
    "as_operator": _is_target,
    "expr_str": _is_expression,
    "in_spec": _is_tree,
    "out_spec": _is_tree,
}
