"""What dies costs what was in flight, and nothing else: `python -m benchmarks.ray_faults`.

A cluster of two nodes on loopback, each with one actor, judges 500 records through an endpoint that takes 50 ms, eight
calls at once of each actor. In every round something is killed (SIGKILL) at a random moment, an actor, a node or the
driver in turn; a killed driver is started again with `--resume`. Then the journal must have every record once, in the
file's order, and the endpoint must have been paid at most what the dead had in flight beyond one call a record.

`--rounds 5` does so many and adds them to those that are there. `--speed` measures instead what a second worker brings,
at the same endpoint and for smollm2 in actors of one thread each, and what the driver computes for a judgement. Writes
results/ray_faults.json.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from benchmarks.pages import fill
from benchmarks.ray_cluster import Cluster, kill_all, wait_until
from fairpos.backends.fake import FakeBackend
from fairpos.backends.openai import connect
from fairpos.engines import on_ray
from fairpos.engines.pool import Pool
from fairpos.engines.pooled import PooledBackend
from fairpos.files.items import Item
from fairpos.files.journal import Journal
from fairpos.judging.judge import Judge
from fairpos.methods.catalogue import parse
from fairpos.model import FairModel
from fairpos.passages import as_segments
from fairpos.types import Request
from tests.fake_endpoint import FakeEndpoint, Reply, Text

RESULTS = Path(__file__).parent / "results" / "ray_faults.json"
RECORDS, LATENCY_S, CONCURRENCY = 500, 0.05, 8
# What an actor holds: the pieces that it has at once, each of a quarter of its calls at once.
IN_FLIGHT = 6 * CONCURRENCY // 4
KINDS = ("actor", "node", "driver")


def write_records(path: Path) -> None:
    """Pairs whose prompts all differ."""
    pairs = [{"id": "a", "text": "7"}, {"id": "b", "text": "8"}]
    lines = [{"id": f"r{i}", "instruction": f"Name a prime above {i}.", "answers": pairs} for i in range(RECORDS)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def start_driver(url: str, cluster: Cluster, records: Path, output: Path, *more: str) -> subprocess.Popen[str]:
    """The command line, on the cluster."""
    command = [
        sys.executable,
        "-m",
        "fairpos",
        "judge",
        str(records),
        "--model",
        f"openai:{url}#m",
        "--methods",
        "none",
    ]
    command += ["--verdicts", "text", "--concurrency", str(CONCURRENCY), "--batch", "64", "-o", str(output)]
    command += ["--engine", "ray", "--ray-address", cluster.address, "--actors", "2", *more]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


class SlowEndpoint(FakeEndpoint):
    """Takes 50 ms for a call; the first ones are held until `opened` is set, so that all actors are there."""

    def __init__(self, text: str) -> None:
        self.opened = threading.Event()

        def answer(_: dict[str, object], __: int) -> Reply:
            self.opened.wait(120)
            return Text(text, latency_s=LATENCY_S)

        super().__init__(answer)


def killed_round(kind: str, draw: random.Random, cluster: Cluster, records: Path) -> dict[str, object]:
    """One round; what was found at its end."""
    output = Path(tempfile.mkdtemp()) / "verdicts.jsonl"
    after = draw.randrange(20, RECORDS * 8 // 10)
    with SlowEndpoint("[[A]]") as endpoint:
        driver = start_driver(endpoint.url, cluster, records, output)
        wait_until(lambda: len(cluster.actors()) == 2 and endpoint.total >= 2 * CONCURRENCY, "no calls by two actors")
        victims = {
            "actor": lambda: [draw.choice(cluster.actors())],
            "node": cluster.second_node,
            "driver": lambda: [psutil.Process(driver.pid)],
        }[kind]()
        endpoint.opened.set()
        while endpoint.total < after:
            time.sleep(0.001)
        killed, paid_before = kill_all(victims), endpoint.total
        if kind == "node":
            cluster.wait_for_death()
        if kind == "driver":
            driver.wait()
            unfinished = RECORDS - output.read_bytes().count(b"\n")
            driver = start_driver(endpoint.url, cluster, records, output, "--resume")
        else:
            unfinished = RECORDS - paid_before
        _, said = driver.communicate(timeout=300)
        calls = endpoint.total
    lines = output.read_text(encoding="utf-8").splitlines()
    ids = [json.loads(line)["id"] for line in lines]
    allowed = IN_FLIGHT * (2 if kind == "driver" else 1)
    found = {
        "kind": kind,
        "killed": killed,
        "killed_after_calls": paid_before,
        "unfinished": unfinished,
        "status": driver.returncode,
        "lines": len(ids),
        "complete": set(ids) == {f"r{i}" for i in range(RECORDS)},
        "doubled": len(ids) - len(set(ids)),
        "in_order": ids == [f"r{i}" for i in range(RECORDS)],
        "paid_twice": calls - RECORDS,
        "allowed": allowed,
    }
    ok = (
        killed > 0 < unfinished
        and driver.returncode == 0
        and found["complete"]
        and found["in_order"]
        and 0 <= calls - RECORDS <= allowed
    )
    return found | {"ok": ok} | ({} if ok else {"said": said[-500:]})


def run_rounds(count: int, found: dict[str, list[dict[str, object]]]) -> None:
    """So many more rounds, the kinds in turn; each is printed and written as it ends."""
    with Cluster() as cluster, tempfile.TemporaryDirectory() as folder:
        records = Path(folder) / "pairs.jsonl"
        write_records(records)
        for number in range(len(found["rounds"]), len(found["rounds"]) + count):
            cluster.mend()
            found["rounds"].append(killed_round(KINDS[number % 3], random.Random(number), cluster, records))
            print(json.dumps(found["rounds"][-1]), flush=True)
            write_results(found)


def write_results(found: dict[str, list[dict[str, object]]]) -> None:
    """The file, and its table in docs/scale.md."""
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    fill("scale.md", "ray-faults", table(found))


def seconds_of(fair: FairModel, requests: Sequence[Request], methods: str, repeats: int) -> float:
    """The median over some repeats, after a first batch in which every worker gets ready."""
    fair.run(requests[:8], methods)
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        fair.run(requests, methods)
        taken.append(time.perf_counter() - started)
    return median(taken)


def endpoint_speed() -> dict[str, object]:
    """Seconds for 500 calls by one worker and by two, each with eight calls at once."""
    requests = [Request("answer", f"question {i}", as_segments(["one", "two"])) for i in range(RECORDS)]
    seconds = {}
    with Cluster() as cluster, SlowEndpoint("fine") as endpoint:
        endpoint.opened.set()
        backend = connect(f"openai:{endpoint.url}#m", concurrency=CONCURRENCY)
        for workers in (1, 2):
            fair = on_ray.load_endpoint(backend, on_ray.Ray(cluster.address, workers=workers))
            with closing(fair.backend):
                wait_until(lambda: len(cluster.actors()) == workers, "the actors don't start")  # noqa: B023
                time.sleep(2)
                seconds[workers] = seconds_of(fair, requests, "none", 5)
    return {"seconds": seconds, "ratio": seconds[1] / seconds[2], "calls": RECORDS, "latency_s": LATENCY_S}


def model_speed() -> dict[str, object]:
    """Seconds for 40 rankings of five passages by smollm2, in one actor with one thread and in two."""
    passages = as_segments([f"Passage {i} is about the engine of {i}." for i in range(5)])
    requests = [Request("rank", f"Which is about {i}?", passages) for i in range(40)]
    seconds = {}
    with Cluster() as cluster:
        for workers in (1, 2):
            fair = on_ray.load("smollm2", on_ray.Ray(cluster.address, workers=workers))
            with closing(fair.backend):
                wait_until(lambda: len(cluster.actors()) == workers, "the actors don't start")  # noqa: B023
                fair.run(requests[:8], "none")
                time.sleep(10)  # until the second has loaded its model too
                seconds[workers] = seconds_of(fair, requests, "none", 3)
    return {"seconds": seconds, "ratio": seconds[1] / seconds[2], "rankings": len(requests)}


def driver_speed() -> dict[str, object]:
    """What the driver does for a judgement of two calls with 600 words, on actors that answer at once."""
    text = " ".join(f"word{i}" for i in range(250))
    items = [
        Item(f"r{i}", Request("judge", f"question {i}", as_segments([text, f"{i} {text}"])), line=i + 1)
        for i in range(3000)
    ]
    with Cluster() as cluster, tempfile.TemporaryDirectory() as folder:
        share = on_ray.Ray(cluster.address, workers=2)
        pool = Pool(lambda _: on_ray.RayWorker(FakeBackend, share, threads=1), 2)
        judge = Judge(PooledBackend(pool), parse("swap"), "swap")
        with closing(pool), Journal(Path(folder) / "verdicts.jsonl", resume=False) as journal:
            wait_until(lambda: len(cluster.actors()) == 2, "the actors don't start")
            list(judge.verdicts_on(items[:8], batch=8))
            started = time.process_time()
            for _, verdict in judge.verdicts_on(items, batch=128):
                journal.append(verdict.to_record())
            spent = time.process_time() - started
    return {"judgements": len(items), "cpu_ms_each": round(1000 * spent / len(items), 2)}


def table(found: dict[str, Any]) -> str:
    """The rounds by what was killed, and what a second worker brings."""
    lines = [
        "| killed | rounds | records lost or doubled | out of order | calls paid twice, at most | in flight |",
        "|---|---|---|---|---|---|",
    ]
    for kind in KINDS:
        here = [each for each in found["rounds"] if each["kind"] == kind]
        wrong = sum(each["doubled"] + (not each["complete"]) for each in here)
        disordered = sum(not each["in_order"] for each in here)
        paid = max((each["paid_twice"] for each in here), default=0)
        allowed = max((each["allowed"] for each in here), default=0)
        lines.append(f"| {kind} | {len(here)} | {wrong} | {disordered} | {paid} | {allowed} |")
    speeds = {"endpoint": "endpoint of 50 ms, 500 records", "smollm2": "smollm2, one thread an actor, 40 rankings"}
    told = {name: text for name, text in speeds.items() if name in found}
    if told:
        lines += ["", "| actors | s with one | s with two | as fast |", "|---|---|---|---|"]
    for name, text in told.items():
        one, two = (found[name]["seconds"][count] for count in ("1", "2"))
        lines.append(f"| {text} | {one:.2f} | {two:.2f} | {found[name]['ratio']:.2f} times |")
    return "\n".join(lines)


def main() -> None:
    """Runs what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--speed", action="store_true", help="What a second worker brings, instead of rounds.")
    given = parser.parse_args()
    found = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {"rounds": []}
    if given.speed:
        measured = {"driver": driver_speed(), "endpoint": endpoint_speed(), "smollm2": model_speed()}
        print(json.dumps(measured, indent=1))
        found |= measured
    else:
        run_rounds(given.rounds, found)
    write_results(found)
    if not all(each["ok"] for each in found["rounds"]):
        sys.exit(1)


if __name__ == "__main__":
    main()
