"""The benchmarks of many processes and hosts, of a long time and of where it goes, for real and small."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks import endurance, hosts, processes, profiling


@pytest.fixture(autouse=True)
def own_results(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """What the checkout holds is of a whole run, and stays."""
    monkeypatch.setattr(endurance, "RESULTS", tmp_path / "endurance.md")
    monkeypatch.setattr(hosts, "RESULTS", tmp_path / "hosts.md")
    monkeypatch.setattr(processes, "RESULTS", tmp_path / "processes.md")
    monkeypatch.setattr(profiling, "RESULTS", tmp_path / "profile.md")
    return tmp_path


@pytest.fixture
def on_the_tests_servers(servers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGA_DATABASE_URL", servers.database_url)
    monkeypatch.setenv("SAGA_REDIS_URL", servers.redis_url)


def test_endurance_tells_twelve_times_how_it_is(
    on_the_tests_servers: None, own_results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    endurance.main(["--seconds", "3", "--processes", "1", "--json"])
    slices = json.loads(capsys.readouterr().out)["slices"]
    assert len(slices) == endurance.SLICES
    assert sum(each["sagas_per_second"] for each in slices) > 0
    assert slices[-1]["table_bytes_per_saga"] > 0
    assert slices[-1]["due_p99_ms"] >= slices[-1]["due_p50_ms"] > 0
    assert (own_results / "endurance.md").read_text().count("\n|") == 2 + endurance.SLICES


def test_processes_tells_what_each_number_of_them_does(
    on_the_tests_servers: None,
    own_results: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(processes, "COUNTS", (1, 2))
    monkeypatch.setattr(processes, "_PAUSE", 0.0)  # so that some of these few are seen to wait
    processes.main(["--sagas", "200", "--repeats", "1", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["1", "2"]
    for figures in found.values():
        assert figures["ok_per_second"] > 0
        assert figures["wal_bytes_per_saga"] > 0
        assert "%" in figures["waits"]
    assert "| 2 |" in (own_results / "processes.md").read_text()


def test_hosts_tells_what_it_costs_to_be_elsewhere(
    own_results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts, "COUNTS", (2,))
    arguments = ["--sagas", "40", "--idle", "10", "--repeats", "1", "--json"]
    if not _makes_namespaces():
        with pytest.raises(SystemExit, match=r"^ip link add saga-bench|need the command `ip`"):
            hosts.main(arguments)
        return
    hosts.main(arguments)
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["1 process beside the servers", "2 host(s)"]
    for figures in found.values():
        assert figures["ok_per_second"] > 0
        assert figures["ok_p99_ms"] >= figures["ok_p50_ms"] > 0
        assert figures["worker_cpu_ms"] > 0
    assert "| 2 host(s) |" in (own_results / "hosts.md").read_text()
    left = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
    assert "saga-bench" not in left.stdout


def _makes_namespaces() -> bool:
    try:
        made = subprocess.run(["unshare", "--net", "ip", "link"], capture_output=True, check=False)
    except FileNotFoundError:
        return False
    return made.returncode == 0


def test_hosts_says_what_it_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match=r"^hosts need the command `ip` \(iproute2\) of Linux$"):
        hosts._ip("link")


def test_profiling_tells_whose_code_it_is_and_where_a_delivery_is(
    on_the_tests_servers: None, own_results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profiling.main(["--sagas", "40", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert sum(found["busy"].values()) == pytest.approx(1, abs=0.01)
    for owner in ("hop, inbox, outbox (internals/)", "orchestrator (boundary/)", "psycopg"):
        assert found["busy"][owner] > 0
    consumers = {leg.partition(" → ")[2] for leg in found["idle"]}
    assert consumers - {""} == {"saga.order", "first", "second", "third"}
    assert found["idle"][profiling._COMMIT]["hop_ms"] > 0
    assert set(found["idle"]["second.do → second"]) == set(profiling._PARTS)
    assert found["idle"]["second.do → second"]["hop_ms"] > 0
    assert "| second.do → second |" in (own_results / "profile.md").read_text()
