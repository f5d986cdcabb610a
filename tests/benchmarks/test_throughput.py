"""The benchmark beside its peers: what it reports has happened, and each figure has its place."""

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from benchmarks.measuring import FIGURES, Measured, Size, measure, percentile
from benchmarks.peers.dramatiq_peer import DramatiqPeer
from benchmarks.peers.peer import EFFECTS, Ledger, Lost, Peer, database_url
from benchmarks.peers.program import program
from benchmarks.peers.saga_peer import SagaPeer
from benchmarks.results import Results
from benchmarks.servers import own_schema
from benchmarks.throughput import run

TINY = Size(busy=20, idle=3, repeats=1)
#: With its warming up, so many sagas of each kind are done by `measure`.
DONE = {False: 20 + 2 + 3 + 1, True: 20 + 2 + 3 + 1}


@pytest.fixture
def servers_in_environment(servers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The benchmark finds its servers as a user's run does."""
    monkeypatch.setenv("SAGA_DATABASE_URL", servers.database_url)
    monkeypatch.setenv("SAGA_REDIS_URL", servers.redis_url)


@pytest.mark.parametrize("peer", [SagaPeer(1), DramatiqPeer(1, 64)], ids=lambda peer: peer.name)
def test_all_effects_of_a_peer_are_there_and_each_figure_is_measured(
    peer: Peer, servers_in_environment: None
) -> None:
    with own_schema() as settings:
        found = measure(peer, settings, TINY)
        with psycopg.connect(database_url(settings)) as connection:
            rows = connection.execute("SELECT what, count(*) FROM effect GROUP BY 1").fetchall()
    warmers = 10 * 2 if peer.name == "dramatiq" else 0  # it is up when ten went through
    expected = {what: 0 for kind in EFFECTS.values() for what in kind}
    for refused, count in DONE.items():
        for what in EFFECTS[refused]:
            expected[what] += count + (0 if refused else warmers)
    assert dict(rows) == expected
    assert set(FIGURES) <= set(found)
    assert all(found[figure] > 0 for figure in FIGURES)


def test_a_peer_that_loses_or_doubles_an_effect_is_found_out(servers_in_environment: None) -> None:
    one, two = uuid4(), uuid4()
    with own_schema() as settings, psycopg.connect(database_url(settings)) as connection:
        ledger = Ledger(connection)
        for order, what in [(one, "first"), (one, "second"), (one, "third"), (two, "first")]:
            connection.execute("INSERT INTO effect VALUES (%s, %s, %s)", (uuid4(), order, what))
        ledger.check([one], False)
        with pytest.raises(Lost, match="2 of 2 sagas left effects, 1 wrongly"):
            ledger.check([one, two], False)
        with pytest.raises(Lost, match="1 of 2 sagas left effects, 0 wrongly"):
            ledger.check([one, uuid4()], False)
        connection.execute("INSERT INTO effect VALUES (%s, %s, 'third')", (uuid4(), one))
        with pytest.raises(Lost, match="1 of 1 sagas left effects, 1 wrongly"):
            ledger.check([one], False)


def test_the_best_configuration_is_chosen_and_the_results_are_written(
    servers_in_environment: None, tmp_path: Path
) -> None:
    said: list[str] = []
    peers = [[SagaPeer(1), SagaPeer(2)]]
    results = run(TINY, trial=TINY, peers=peers, say=said.append)
    results.write(tmp_path)
    rates = {line.partition(":")[0]: line for line in said if "a second" in line}
    assert len(rates) == 2
    assert results.peers["saga"].configuration in {peer.configuration for peer in peers[0]}
    stored = json.loads((tmp_path / "latest.json").read_text())
    assert set(stored) == {"saga", "about"}
    assert set(stored["saga"]) == set(FIGURES)
    assert "| ok_per_second |" in (tmp_path / "latest.md").read_text()


def test_medians_and_ratios() -> None:
    def measured(*rates: float) -> Measured:
        runs = [dict.fromkeys(FIGURES, rate) for rate in rates]
        return Measured("one", runs)

    results = Results({}, TINY, {"saga": measured(9, 30, 20), "dramatiq": measured(10, 8, 400)})
    assert results.peers["saga"].median("ok_per_second") == 20
    assert results.ratios() == {"dramatiq": {"ok_per_second": 2.0, "undone_per_second": 2.0}}


@pytest.mark.parametrize(("share", "value"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.001, 1)])
def test_a_percentile_is_one_of_the_values(share: float, value: int) -> None:
    assert percentile(list(range(100, 0, -1)), share) == value


ECHO = """
import json, sys
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    if asked["refused"]:
        sys.exit(3)
    print(json.dumps({"seconds": [0.5] * len(asked["orders"])} if asked["idle"] else {}), flush=True)
"""


def test_a_peer_in_a_process_of_its_own_answers_or_is_lost(tmp_path: Path) -> None:
    (tmp_path / "echo_program.py").write_text(ECHO)
    with program("echo_program", {"PYTHONPATH": str(tmp_path)}) as running:
        assert len(set(running.busy(3, refused=False))) == 3
        orders, seconds = running.idle(2, refused=False)
        assert (len(orders), seconds) == (2, [0.5, 0.5])
        assert [process.is_running() for process in running.processes] == [True]
        with pytest.raises(Lost, match="echo_program ended with status 3"):
            running.busy(1, refused=True)
    assert running.popen.poll() == 3
