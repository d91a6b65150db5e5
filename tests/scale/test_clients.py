"""What ``client=`` may be, and what is said where it cannot be reached."""

from __future__ import annotations

import pickle
import sys

import pytest
from distributed import Client

from iood_helpers.errors import CheckpointError, ScaleError
from iood_helpers.model import precision
from iood_helpers.scale import Network, clients, connected


def test_a_client_may_be_none_a_client_a_cluster_or_an_address(client, cluster):
    with connected() as found:
        assert found is None
    with connected(client) as found:
        assert found is client
    assert client.status == "running"  # what was given stays open
    for given in (cluster, cluster.scheduler_address):
        with connected(given) as found:
            assert found.scheduler.address == cluster.scheduler_address
        assert found.status == "closed"


def test_what_is_none_of_these_is_named(monkeypatch):
    with pytest.raises(ScaleError, match="a Client or a cluster of Dask, not 3"):
        connected(3).__enter__()
    monkeypatch.setattr(clients, "SECONDS_TO_CONNECT", 1)
    with pytest.raises(ScaleError, match=r"No scheduler answers at tcp://127\.0\.0\.1:1"):
        connected("tcp://127.0.0.1:1").__enter__()


def test_without_dask_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with connected(None) as found:  # this process needs none
        assert found is None
    with pytest.raises(ScaleError, match=r"pip install '\.\[scale\]'"):
        connected("tcp://127.0.0.1:8786").__enter__()


def test_a_process_builds_its_network_once():
    network = Network()
    assert network.segmenter() is Network("nano").segmenter()
    other = Network(precision="bfloat16")
    assert other.segmenter() is not network.segmenter()
    assert len(clients._HERE) == 1  # one in memory at a time


def test_a_network_is_loaded_as_it_is_described(monkeypatch):
    asked = []
    monkeypatch.setattr(
        "iood_helpers.model.segmenter.load_segmenter", lambda *args, **options: asked.append((args, options))
    )
    monkeypatch.setattr(clients, "_HERE", {})
    Network("config.py", "weights.pth", head="full", device="cpu", precision="bfloat16").segmenter()
    assert asked == [(("config.py", "weights.pth"), {"head": "full", "device": "cpu", "precision": "bfloat16"})]


def test_a_tree_has_the_same_name_for_workers_elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert clients.checked_tree("tree") == tmp_path / "tree"


def test_a_precision_is_chosen_once_for_all_workers(monkeypatch):
    monkeypatch.setattr(precision, "is_bfloat16_faster", lambda: True)
    network = Network(device="cpu", precision="auto")
    monkeypatch.setattr(precision, "is_bfloat16_faster", lambda: False)  # as another worker might find
    assert network.precision == pickle.loads(pickle.dumps(network)).precision == "bfloat16"


def test_weights_that_cannot_be_read_are_named_at_once(client):
    with pytest.raises(CheckpointError, match=r"missing\.pth"):
        clients.load_everywhere(client, Network("/nowhere/missing.pth"))
    assert not any(client.run(lambda dask_worker: clients.PLUGIN in dask_worker.plugins).values())


@pytest.mark.parametrize(
    "kind, scheduler", [("SLURMCluster", "#SBATCH --mem=30G"), ("PBSCluster", "#PBS -l select=1:ncpus=8:mem=28GB")]
)
def test_a_cluster_of_jobs_can_be_given(kind, scheduler, tmp_path):
    """The configurations of the book; constructed, and nothing is submitted."""
    jobqueue = pytest.importorskip("dask_jobqueue")
    options = {"cores": 8, "processes": 1, "memory": "32GB", "walltime": "12:00:00", "queue": "gpu"}
    with getattr(jobqueue, kind)(**options, scheduler_options={"dashboard_address": ":0"}) as cluster:
        script = cluster.job_script()
        assert "distributed.cli.dask_worker" in script and "--nthreads 8" in script
        assert scheduler.split("=")[0] in script
        with connected(cluster) as found:
            assert isinstance(found, Client) and not found.nthreads()
