"""Many fuzzed bodies against a running service: `python -m benchmarks.service_fuzz --bodies 10000`.

The same bodies as the tests, only more of them and others every time; the upstream behind the proxy answers as asked,
so that any 5xx is the service's. Prints how many got which status.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import Counter

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tests.service.running import running, tiny
from tests.service.test_schema import fuzz, requests
from tests.service.upstream import Connection, Received, Scripted, completion, whole


async def answer(request: Received, connection: Connection) -> None:
    """A text that is a verdict too."""
    if request.body.get("stream"):
        await completion(request, connection)
    else:
        await connection.json(whole("[[A]]"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bodies", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    seen: Counter[tuple[str, int]] = Counter()
    began = time.monotonic()
    os.environ["FAIRPOS_PROFILES"] = tempfile.mkdtemp()
    limits = {"max_documents": 8, "max_calls": 20}
    with (
        Scripted(answer) as up,
        running({"tiny": tiny(context=512)}, max_new_tokens=4, **limits) as local,
        running(upstream=up.url, **limits) as proxy,
    ):

        @seed(options.seed)
        @settings(max_examples=options.bodies, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(request=requests(), upstream=st.integers(0, 5).map(lambda n: n == 0))
        def probe(request: tuple[str, dict[str, object]], upstream: bool) -> None:
            path, body = request
            url, name = (proxy.url, f"{path} (upstream)") if upstream else (local.url, path)
            seen[name, fuzz(url, path, body)] += 1

        probe()
    for (path, status), count in sorted(seen.items()):
        print(f"{path:36} {status} {count:7}")
    faults = sum(count for (_, status), count in seen.items() if status >= 500)
    print(f"{sum(seen.values())} bodies, {faults} with a 5xx; {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
