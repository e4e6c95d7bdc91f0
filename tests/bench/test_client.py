"""Worker processes: answers, errors, death, and that none is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from engram_local.bench import client
from engram_local.bench.client import Job, ProcessWorker
from engram_local.errors import BenchError, EngramError
from engram_local.settings import Settings
from tests.bench.fakes import N_VOCAB, make_turn

ROOT = Path(__file__).parents[2]
FAKE = [sys.executable, "-m", "tests.bench.fake_worker"]
PATIENCE_S = 30

BENCH = """
import sys
from dataclasses import replace
from pathlib import Path
from engram_local.bench import client
from engram_local.bench.arms import ATTACHED
from engram_local.bench.runner import Outside, run_arms
from engram_local.bench.tokens import Plan
from tests.bench.fakes import SUBJECT, arm
from tests.bench.test_client import FAKE

client._COMMAND = FAKE
subject = replace(SUBJECT, model=Path(sys.argv[1]))
outside = Outside(read_through=lambda path: None)
plan = Plan(n_prompt=1, n_decode=1)
run_arms(ATTACHED, [arm("a")], subject, plan, outside=outside)
"""
"""Three workers, of which the first hangs in its first turn."""


@pytest.fixture(autouse=True)
def fake_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start the fake, here and in the processes that tests start."""
    monkeypatch.setattr(client, "_COMMAND", FAKE)
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)


def job(name: str, folder: Path = Path()) -> Job:
    """Return a job; the worker does what its model is called."""
    return Job(model=folder / name, memory=None, settings=Settings())


def test_a_turn_comes_back_as_it_was() -> None:
    with ProcessWorker(job("fine")) as worker:
        assert worker.n_vocab == N_VOCAB
        assert worker.tokenize("four") == [4]
        assert worker.replay([1], [2]) == make_turn()
        assert worker.replay([1], [2], memory=False) == make_turn()
    assert worker._process.returncode == 0


def test_an_error_of_a_worker_keeps_its_code_and_its_hint() -> None:
    with pytest.raises(EngramError, match="gone") as caught:
        ProcessWorker(job("missing"))
    assert (caught.value.code, caught.value.exit_code) == ("bad-file", 3)
    assert caught.value.hint == "look"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("dies", "a worker ended with code 1: MemoryError: no more"),
        ("lost", r"code 1: error\[file-lost\]: a mapped file is gone"),
        ("killed", "a worker was killed by SIGKILL"),
    ],
)
def test_a_worker_that_ends_without_an_answer_is_an_error(
    name: str, sentence: str
) -> None:
    with pytest.raises(BenchError, match=sentence), ProcessWorker(job(name)) as worker:
        worker.replay([1], [2])
    assert worker._process.returncode != 0


def test_an_error_here_ends_the_worker_at_once() -> None:
    with pytest.raises(ZeroDivisionError), ProcessWorker(job("hangs")) as worker:
        raise ZeroDivisionError
    assert worker._process.returncode == -signal.SIGKILL


def test_a_worker_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_GRACE_S", 0.01)
    with ProcessWorker(job("hangs")) as worker:
        worker._process.stdin.write('{"prompt_ids": []}\n')  # type: ignore[union-attr]
    assert worker._process.returncode == -signal.SIGKILL


def start_bench(folder: Path) -> subprocess.Popen[bytes]:
    """Start a bench and wait until its workers run."""
    process = subprocess.Popen(
        [sys.executable, "-c", BENCH, str(folder / "pid")], stderr=subprocess.PIPE
    )
    wait_until(lambda: len(pids(folder)) == 3)
    return process


def pids(folder: Path) -> list[int]:
    """Return the workers that were started in a folder."""
    return [int(path.stem) for path in folder.glob("*.pid")]


def wait_until(condition: object) -> None:
    """Wait until it is true."""
    end = time.monotonic() + PATIENCE_S
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.01)


def gone(pid: int) -> bool:
    """Return whether a process has ended; in a container nobody may bury it."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_ctrl_c_leaves_no_worker(tmp_path: Path) -> None:
    process = start_bench(tmp_path)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert err.rstrip().endswith(b"KeyboardInterrupt")
    assert [pid for pid in pids(tmp_path) if not gone(pid)] == []


def test_ctrl_c_reaches_the_bench_alone(tmp_path: Path) -> None:
    process = start_bench(tmp_path)
    groups = {os.getpgid(pid) for pid in pids(tmp_path)}
    assert os.getpgid(process.pid) not in groups
    process.kill()
    process.communicate()
    for pid in pids(tmp_path):
        os.kill(pid, signal.SIGKILL)


def test_workers_end_when_the_bench_is_killed() -> None:
    """An idle worker waits for a line; that its stdin ends is all it hears."""
    code = BENCH.split("subject =")[0] + (
        "from tests.bench.test_client import job\n"
        "worker = client.ProcessWorker(job('fine'))\n"
        "print(worker._process.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        assert not gone(pid)
        process.kill()
    wait_until(lambda: gone(pid))


def test_a_job_is_plain_json() -> None:
    settings = replace(Settings(), memory_tier="ram", prefetch=False)
    whole = Job(model=Path("a"), memory=Path("b"), settings=settings)
    values = whole.as_json()
    assert (values["model"], values["memory"]) == ("a", "b")
    assert Settings(**values["settings"]) == settings
    assert job("a").as_json()["memory"] is None
