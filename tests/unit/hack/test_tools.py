from pathlib import Path

import pytest

from modelyard_hack import tools
from modelyard_hack.step import StepError

GO_MOD = """module example.dev/tool

go 1.26

require single.dev/one v1.0.0

require (
\tk8s.io/kubernetes v1.34.4 // indirect
\tk8s.io/kubernetes-extra v9.9.9
)
"""


@pytest.mark.parametrize(("module", "version"), [("k8s.io/kubernetes", "v1.34.4"), ("single.dev/one", "v1.0.0")])
def test_reads_the_required_version(module: str, version: str) -> None:
    assert tools.required_version(GO_MOD, module) == version


def test_a_module_that_is_not_required_is_named() -> None:
    with pytest.raises(StepError, match=r"requires no example\.dev/absent"):
        tools.required_version(GO_MOD, "example.dev/absent")


def test_the_linker_is_told_the_versions_that_programs_report() -> None:
    kubelet = tools.linker_flags(tools.BY_NAME["kubelet"], "v1.34.4")
    assert "version.gitVersion=v1.34.4" in kubelet
    assert "version.gitMajor=1 " in kubelet
    assert kubelet.endswith("version.gitMinor=34")
    helm = tools.linker_flags(tools.BY_NAME["helm"], "v3.21.4")
    assert "internal/version.version=v3.21.4" in helm
    minor = tools.tool_version(tools.BY_NAME["kubectl"]).split(".")[1]
    assert f"chartutil.k8sVersionMinor={minor}" in helm
    assert tools.linker_flags(tools.BY_NAME["etcd"], "v3.6.13") == "-s -w"


@pytest.mark.parametrize("tool", tools.BY_NAME.values(), ids=lambda tool: tool.name)
def test_every_tool_is_pinned_with_checksums(tool: tools.Tool) -> None:
    version = tools.tool_version(tool)
    assert f"{tool.module} {version} " in (tools.MODULES / tool.folder / "go.sum").read_text()
    assert version in tools.cached_folder(tool).name


def test_the_cache_key_changes_with_the_checksums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    tool = tools.BY_NAME["etcd"]
    folder = tmp_path / tool.folder
    folder.mkdir()
    for name in ("go.mod", "go.sum"):
        (folder / name).write_bytes((tools.MODULES / tool.folder / name).read_bytes())
    monkeypatch.setattr(tools, "MODULES", tmp_path)
    before = tools.cached_folder(tool)
    (folder / "go.sum").write_text("other\n")
    assert tools.cached_folder(tool) != before
