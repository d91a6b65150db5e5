"""Whatever ends a process, nothing claims more than is true, nothing stays locked, and the next run goes on.

``IOOD_KILLS`` sets how many kills each kind of work gets (``make test-hard`` asks for many).
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import toy_course
from toy_course import build

from iood_helpers import ClassKMeans, EmbeddingStore
from iood_helpers.course import kernels

KILLS = int(os.environ.get("IOOD_KILLS", "2"))
TOY = Path(toy_course.__file__)
SLOW = """
import os, time
from pathlib import Path
from iood_helpers.io import write_json
run = Path(run_dir)
(run / "kernel").write_text(str(os.getpid()))
"""
CHAIN = {
    "00_one": ["run_dir = 'x'\nseed = 0\npause = 0.0", SLOW, "write_json(run / 'one.json', {'seed': seed})"],
    "01_two": [
        "run_dir = 'x'\nseed = 0\npause = 0.0",
        SLOW + "import json\nbefore = json.loads((run / 'one.json').read_text())['seed']",
        "time.sleep(pause)\nwrite_json(run / 'two.json', {'squares': [(before + i) ** 2 for i in range(1000)]})",
    ],
}


def start(course, *arguments):
    command = [sys.executable, str(TOY), str(course), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def content(course, name="run.json"):
    return json.loads((course / "run" / name).read_text())


def wait_for(path, process, seconds=60):
    end = time.monotonic() + seconds
    while not path.is_file() or not path.read_text():
        assert time.monotonic() < end and process.poll() is None, process.communicate()
        time.sleep(0.02)
    return path.read_text()


def gone(pid, seconds=5):
    end = time.monotonic() + seconds
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


@pytest.fixture(autouse=True)
def interruptible():
    """Ctrl-C works as at a terminal, also where a shell ran the tests in the background and so ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def course(tmp_path):
    return build(tmp_path, CHAIN, f"run_dir: {tmp_path}/run\n")


def test_a_kernel_that_dies_is_told_in_a_sentence(tmp_path):
    cells = {"00_one": ["run_dir = 'x'", "import os, signal, numpy\nheld = numpy.ones(30_000_000)"]}
    cells["00_one"][1] += "\nimport time\ntime.sleep(0.6)\nos.kill(os.getpid(), signal.SIGKILL)"
    build(tmp_path, cells, f"run_dir: {tmp_path}/run\n")
    process = start(tmp_path)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1 and "Traceback" not in error
    assert "00_one: its kernel ended before the notebook did, most likely for lack of memory" in error
    used = int(error.split("it had used ")[1].split(" MiB")[0])
    assert 230 < used < 2000  # the array alone is 229 MiB
    assert content(tmp_path)["status"] == "failed in 00_one" and "kernel ended" in content(tmp_path)["error"]


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("at_work", [True, False])
def test_interrupted_runs_end_at_once_and_go_on(course, number, code, at_work):
    process = start(course, "--set", "pause=60.0")
    wait_for(course / "run" / "one.json", process)
    first = int(wait_for(course / "run" / "kernel", process))
    if at_work:
        while (kernel := int(wait_for(course / "run" / "kernel", process))) == first:
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
    else:  # between two notebooks, or while the second kernel starts
        kernel = first
    process.send_signal(number)
    output, error = process.communicate(timeout=50)  # the notebook would go on for a minute
    assert process.returncode == code, output + error
    assert gone(kernel)
    assert content(course)["status"].startswith("interrupted in 0")
    again = start(course)
    again.communicate(timeout=60)
    assert again.returncode == 0 and content(course)["status"] == "complete"


def test_a_signal_waits_for_its_moment_and_is_not_lost():
    number, reached = signal.SIGINT, []
    with pytest.raises(KeyboardInterrupt), kernels._signals_kept() as handle:  # noqa: PT012  (how far it comes)
        os.kill(os.getpid(), number)
        reached.append("no exception at the place where the signal came")
        handle()
        reached.append("too far")
    with pytest.raises(KeyboardInterrupt), kernels._signals_kept():
        os.kill(os.getpid(), number)
    assert len(reached) == 1
    assert signal.getsignal(number) is signal.default_int_handler


def test_killed_runs_claim_nothing_and_go_on(course):
    """Kills at random moments; artefacts of the next run are those of an undisturbed one."""
    began = time.monotonic()
    whole = start(course, "--set", "seed=1")
    whole.communicate(timeout=60)
    assert whole.returncode == 0
    took, wanted = time.monotonic() - began, content(course, "two.json")
    rng = random.Random(0)
    for kill in range(KILLS):
        process = start(course, "--set", f"seed={kill + 2}")
        time.sleep(rng.uniform(0.2, 0.95) * took)
        process.kill()
        process.communicate()
        record = content(course)
        if record["parameters"]["seed"] == kill + 2:  # it had begun
            assert record["status"] in ("running", "complete")
        if record["status"] == "complete":  # then all is as it says
            assert content(course, "one.json")["seed"] == record["parameters"]["seed"]
        for path in (course / "run").glob("*.json"):
            json.loads(path.read_text())  # none is half written
        again = start(course, "--set", "seed=1")
        _, error = again.communicate(timeout=60)
        assert again.returncode == 0, error  # the lock died with its holder
        assert content(course, "two.json") == wanted and content(course)["status"] == "complete"


EXTRACT = """
import sys
from iood_helpers import PixelEmbedder, extract_embeddings, load_dataset, load_segmenter
segmenter, images = load_segmenter("nano"), load_dataset("mini/train-fit", limit=6)
print("ready", flush=True)
extract_embeddings(segmenter, images, PixelEmbedder((0, "decoder")), sys.argv[1], n_per_class=60, progress=False)
print("done", flush=True)
"""


def extract(path):
    command = [sys.executable, "-W", "ignore", "-c", EXTRACT, str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def images_done(path):
    file = path / "progress.json"
    return len(json.loads(file.read_text())["names"]) if file.is_file() else 0


def test_killed_extractions_resume_to_the_same_store(tmp_path):
    whole = extract(tmp_path / "whole")
    assert whole.stdout.readline() == "ready\n"
    began = time.monotonic()
    assert whole.stdout.readline() == "done\n"
    took, wanted = time.monotonic() - began, EmbeddingStore.open(tmp_path / "whole").load()
    whole.communicate()
    rng, cut = random.Random(1), 0
    for kill in range(KILLS):
        path = tmp_path / f"store{kill}"
        process = extract(path)
        assert process.stdout.readline() == "ready\n"
        if kill % 2:
            time.sleep(rng.uniform(0, 0.9) * took)
        else:  # after the first of six images, however fast the machine is at the moment
            while process.poll() is None and not images_done(path):
                time.sleep(0.002)
        process.kill()
        process.communicate()
        if (path / "progress.json").is_file():
            store = EmbeddingStore.open(path)
            cut += not store.is_complete
            rows = store.load()  # what counts can be read
            np.testing.assert_array_equal(rows.label, wanted.label[: len(rows.label)])
        process = extract(path)
        _, error = process.communicate(timeout=120)
        assert process.returncode == 0, error
        rows = EmbeddingStore.open(path).load()
        for name, values in vars(wanted).items():
            # The same way on the same machine; an image that is done is not done again.
            np.testing.assert_array_equal(getattr(rows, name), values, err_msg=name)
    assert cut  # some kill came in the middle


SAVE = """
import sys
import numpy as np
from iood_helpers import ClassKMeans
rng = np.random.default_rng(0)
model = ClassKMeans(20).fit(rng.normal(size=(4000, 200)), np.repeat(np.arange(10), 400))
print("ready", flush=True)
while True:
    model.save(sys.argv[1])
"""


def test_killed_writers_leave_whole_files(tmp_path):
    path, rng = tmp_path / "k.safetensors", random.Random(2)
    for _ in range(KILLS):
        process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", SAVE, str(path)], stdout=subprocess.PIPE)
        process.stdout.readline()
        time.sleep(rng.uniform(0.05, 0.3))
        process.kill()
        process.communicate()
        model = ClassKMeans.load(path)
        assert len(model.centers_) == 10
    model.save(path)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]  # what the killed ones left is swept
