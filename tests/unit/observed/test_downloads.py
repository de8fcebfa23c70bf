"""What Ray's metrics say of a download."""

from modelyard_operator.observed.downloads import Download, read_download

LABELS = (  # as Ray 2.60 has them
    'Component="core_worker",NodeAddress="10.0.0.9",SessionName="s",Version="2.60.0",WorkerId="f{}",'
    'otel_scope_name="ray._private.telemetry",otel_scope_schema_url="",otel_scope_version="",revision="{}",'
    'service="team-a/x"'
)
FIRST, OTHER = LABELS.format(1, "0123abcd"), LABELS.format(2, "ffffffff")
SCRAPE = f"""# HELP ray_modelyard_download_bytes Bytes of the model that is downloaded.
# TYPE ray_modelyard_download_bytes gauge
ray_modelyard_download_bytes{{{FIRST}}} 3.4e+09
ray_modelyard_download_done_bytes{{{FIRST}}} 1200000000.0
ray_modelyard_download_done_bytes{{{LABELS.format(3, "0123abcd")}}} 2.0e+08
ray_modelyard_download_bytes{{{OTHER}}} 7.0
ray_modelyard_start_seconds{{{FIRST}}} 1.0
""".splitlines()


def test_the_furthest_replica_of_the_revision_counts() -> None:
    assert read_download(SCRAPE, "team-a/x", "0123abcd") == Download(3_400_000_000, 1_200_000_000)


def test_of_another_it_says_another_thing_or_nothing() -> None:
    assert read_download(SCRAPE, "team-a/x", "ffffffff") == Download(7, 0)
    assert read_download(SCRAPE, "team-b/x", "0123abcd") is None
    assert read_download([], "team-a/x", "0123abcd") is None


def test_it_is_told_in_words() -> None:
    assert Download(4 * 2**30, 2**30).words() == "1Gi of 4Gi"
    assert Download(4 * 2**30, 2**30, 85 * 2**20).words() == "1Gi of 4Gi, 85Mi/s"
