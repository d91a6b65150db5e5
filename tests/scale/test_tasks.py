"""Tasks: how many are under way, what an error does, and what happens when the scheduler is gone."""

from __future__ import annotations

import time
from types import SimpleNamespace

import dask
import pytest
from distributed import Client, LocalCluster
from scale_samples import broken, deadly, fail_on_three, slow_square

from iood_helpers.errors import DatasetError, ScaleError
from iood_helpers.scale import tasks
from iood_helpers.scale.tasks import in_order, run

NUMBERS = list(range(8))


@pytest.fixture(scope="module")
def threads():
    """A scheduler and a worker within this process."""
    options = {"processes": False, "n_workers": 1, "threads_per_worker": 2, "dashboard_address": ":0"}
    with LocalCluster(**options, silence_logs=50) as cluster, Client(cluster) as client:
        yield client


@pytest.mark.parametrize("where", ["here", "dask"])
def test_results_come_with_their_index(where, threads):
    client = threads if where == "dask" else None
    assert dict(run(slow_square, NUMBERS, client=client)) == {x: x * x for x in NUMBERS}
    assert list(in_order(run(slow_square, NUMBERS, client=client))) == [x * x for x in NUMBERS]


def test_what_comes_too_early_waits():
    """Workers need not be done in the order of the items."""
    given = [(2, "c"), (0, "a"), (1, "b"), (4, "e"), (3, "d")]
    assert list(in_order(given)) == ["a", "b", "c", "d", "e"]


def test_each_thread_has_one_at_work_and_one_waiting(threads):
    seen = [len(threads.futures) for _ in run(slow_square, list(range(20)), client=threads)]
    assert max(seen) == 2 * 2


def nothing_is_kept(client):
    """Dask forgets on a thread of its own."""
    end = time.monotonic() + 5
    while client.futures and time.monotonic() < end:
        time.sleep(0.01)
    return not client.futures


def test_no_more_than_so_many_are_under_way(threads):
    seen = [len(threads.futures) for _ in run(slow_square, list(range(30)), client=threads, in_flight=3)]
    assert max(seen) <= 3
    assert nothing_is_kept(threads)


def test_what_the_caller_no_longer_wants_is_called_back(threads):
    results = run(slow_square, list(range(100)), client=threads)
    next(results)
    results.close()
    assert nothing_is_kept(threads)


@pytest.mark.parametrize("where", ["here", "dask"])
def test_an_error_stops_or_is_skipped(where, threads):
    client, failures = threads if where == "dask" else None, []
    with pytest.raises(DatasetError, match="three is damaged") as raised:
        list(run(fail_on_three, NUMBERS * 20, client=client))
    assert nothing_is_kept(threads) and raised.tb  # though its frames are held
    done = dict(run(fail_on_three, NUMBERS, client=client, on_error="skip", failures=failures))
    assert sorted(done) == [0, 1, 2, 4, 5, 6, 7]
    assert [(f.index, f.name, f.reason) for f in failures] == [(3, "3", "three is damaged")]
    with pytest.raises(ZeroDivisionError):  # a mistake of the program is never skipped
        list(run(broken, NUMBERS, client=client, on_error="skip"))


def test_a_scheduler_that_is_gone_is_named():
    options = {"processes": False, "n_workers": 1, "threads_per_worker": 1, "dashboard_address": ":0"}
    with LocalCluster(**options, silence_logs=50) as cluster, Client(cluster) as client:
        results = run(slow_square, list(range(200)), client=client)
        next(results)
        cluster.close()
        with pytest.raises(ScaleError, match="The scheduler is gone"):
            list(results)


def test_a_result_lost_before_it_was_fetched_is_waited_for():
    """Its worker ended after the task: the scheduler has it done again."""
    assert tasks._outcome(SimpleNamespace(status="lost", result=lambda: 7), 3) == (3, 7, None)


@pytest.mark.slow
def test_an_item_that_ends_its_workers_is_told_from_those_beside_it(tmp_path):
    """Number 1 ends its worker once, number 3 always."""
    settings = {"distributed.scheduler.allowed-failures": 0}
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0", "silence_logs": 50}
    items = [(number, tmp_path / "once") for number in NUMBERS]
    with dask.config.set(settings), LocalCluster(**options) as cluster, Client(cluster) as client:
        failures = []
        done = list(run(deadly, items, client=client, on_error="skip", failures=failures))
        assert sorted(done) == [(n, n) for n in NUMBERS if n != 3] and (tmp_path / "once").exists()
        assert [failure.index for failure in failures] == [3] and "ended its worker" in failures[0].reason
        with pytest.raises(ScaleError, match="ended its worker"):
            list(run(deadly, items, client=client))
