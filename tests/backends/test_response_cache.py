"""The response cache under threads, processes, kills and forks."""

import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fairpos.backends.response_cache import CachedResponse, ResponseCache
from fairpos.errors import BackendError, InvalidOption

ROOT = Path(__file__).parents[2]


def test_what_was_put_is_there_after_reopening(tmp_path: Path) -> None:
    path = tmp_path / "made" / "on demand.sqlite"
    with ResponseCache(path) as cache:
        assert cache.get("k") is None
        cache.put("k", '{"Ü": 1}', 0.25)
        assert cache.get("k") == CachedResponse('{"Ü": 1}', 0.25)
    with ResponseCache(path) as cache:
        assert cache.get("k") == CachedResponse('{"Ü": 1}', 0.25)
        assert len(cache) == 1


def test_the_first_response_stays(tmp_path: Path) -> None:
    with ResponseCache(tmp_path / "c") as cache:
        cache.put("k", "first", 1.0)
        cache.put("k", "second", 2.0)
        assert cache.get("k") == CachedResponse("first", 1.0)


def test_two_objects_see_each_other_at_once(tmp_path: Path) -> None:
    with ResponseCache(tmp_path / "c") as one, ResponseCache(tmp_path / "c") as two:
        one.put("k", "raw", 1.0)
        assert two.get("k") is not None


def test_threads_write_together(tmp_path: Path) -> None:
    with ResponseCache(tmp_path / "c") as cache:

        def write(thread: int) -> None:
            for number in range(50):
                cache.put(f"{thread} {number}", "raw", 0.0)

        threads = [threading.Thread(target=write, args=(t,)) for t in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(cache) == 8 * 50


WRITE = """
import os, sys
from fairpos.backends.response_cache import ResponseCache
path, name, count, die = sys.argv[1:]
cache = ResponseCache(path)
for number in range(int(count)):
    cache.put(f"{name} {number}", "raw", 0.0)
    print(number, flush=True)
    if number == int(die):
        os.kill(os.getpid(), 9)
cache.close()
"""


def start_writer(path: Path, name: str, count: int, die: int = -1) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", WRITE, str(path), name, str(count), str(die)],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
    )


def test_processes_make_and_write_one_file_together(tmp_path: Path) -> None:
    processes = [start_writer(tmp_path / "c", name, 100) for name in "abcdef"]
    for process in processes:
        with process:
            process.communicate(timeout=60)
        assert process.returncode == 0
    with ResponseCache(tmp_path / "c") as cache:
        assert len(cache) == 600


def test_a_killed_writer_loses_nothing_that_it_had_written(tmp_path: Path) -> None:
    with start_writer(tmp_path / "c", "a", 100, die=37) as process:
        written, _ = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    with ResponseCache(tmp_path / "c") as cache:
        assert len(cache) == 38 == len(written.split())


def test_a_forked_process_opens_its_own_connection(tmp_path: Path) -> None:
    code = """
import os, sys
from fairpos.backends.response_cache import ResponseCache
with ResponseCache(sys.argv[1]) as cache:
    cache.put("parent", "raw", 0.0)
    connection = cache._connection
    child = os.fork()
    if child == 0:
        cache.put("child", "raw", 0.0)
        assert cache._connection is not connection
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert cache._connection is connection
    cache.put("parent again", "raw", 0.0)
    print(len(cache))
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(tmp_path / "c")], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.stderr, done.stdout) == ("", "3\n")


def test_another_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "accounts.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE accounts (name)")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(InvalidOption, match=r"accounts\.sqlite can't be used as a response cache: it is a database of"):
        ResponseCache(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_files_that_are_no_database_and_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a database, but long enough to be looked at" * 100)
    for path in (tmp_path / "notes.txt", tmp_path, tmp_path / "notes.txt" / "below"):
        with pytest.raises(InvalidOption, match="can't be used as a response cache"):
            ResponseCache(path)


def test_use_after_close_is_said(tmp_path: Path) -> None:
    cache = ResponseCache(tmp_path / "c")
    cache.close()
    cache.close()
    with pytest.raises(BackendError, match="closed"):
        cache.get("k")
