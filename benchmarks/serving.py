"""Load on the server for programs: requests a second against bare forwards of the same network.

    python benchmarks/serving.py --photos FOLDER [--seconds 20] [--n-checked 2000]

For 1, 4 and 16 clients, each with one request at a time over a connection that stays: requests a
second, their ratio to bare forwards of single photos in a process of its own, median and 95th
percentile, the latter in forwards too. Then `--n-checked` requests of many photos in 8 threads,
each answer compared with what the library says of that photo, and the server's memory after 200 of
them and at the end. Clients and server share the machine. Needs the extra `app`.
"""

import argparse
import http.client
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_BOUNDARY = "naspix-benchmark"
_FORWARDS = """
import sys, time, naspix
model = naspix.load_model()
photos = [model.load_images([path]) for path in sys.argv[1:9]]
times = []
for number in range(120):
    began = time.perf_counter()
    model(photos[number % len(photos)])
    times.append(time.perf_counter() - began)
print(sorted(times[20:])[50])
"""


@contextmanager
def _server() -> Iterator[tuple[int, int]]:
    """A server in a process of its own: its port and process."""
    command = [sys.executable, "-m", "naspix", "serve", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = next(line for line in process.stderr if "the server is at" in line)
        found = re.search(r":(\d+)/docs", line)
        assert found
        try:
            yield int(found[1]), process.pid
        finally:
            process.send_signal(signal.SIGINT)


def _form(path: Path) -> bytes:
    head = (
        f"--{_BOUNDARY}\r\nContent-Disposition: form-data; name=\"photo\"; "
        f"filename=\"{path.name}\"\r\n\r\n"
    )  # fmt: skip
    return head.encode() + path.read_bytes() + f"\r\n--{_BOUNDARY}--\r\n".encode()


def _ask(connection: http.client.HTTPConnection, route: str, body: bytes) -> Any:
    kind = {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}
    connection.request("POST", f"/v1/{route}", body, kind)
    response = connection.getresponse()
    content = response.read()
    if response.status != 200:
        raise SystemExit(f"{response.status}: {content[:200]!r}")
    return json.loads(content)


def _load(port: int, route: str, bodies: Sequence[bytes], clients: int, seconds: float) -> Any:
    """Seconds of each request of so many clients."""
    times: list[float] = []
    ends = time.perf_counter() + seconds

    def client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        while time.perf_counter() < ends:
            began = time.perf_counter()
            _ask(connection, route, bodies[number % len(bodies)])
            times.append(time.perf_counter() - began)
            number += clients

    threads = [threading.Thread(target=client, args=(n,)) for n in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times


def _memory(process: int) -> float:
    """Resident MB."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _check(port: int, process: int, photos: Sequence[Path], n_requests: int) -> str:
    """Compare every answer with the library's; memory after 200 and at the end."""
    import naspix

    model = naspix.load_model()
    expected = []
    for path in photos:
        images = model.load_images([path])
        clusters = naspix.NAS(model)(images)
        expected.append((int(model(images).argmax()), int(clusters.n_superpixels[0])))
    bodies = [_form(path) for path in photos]
    wrong, memory, number = [], [0.0], iter(range(n_requests))

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        for one in number:
            at = one % len(photos)
            found = _ask(connection, "segment", bodies[at])
            said = found["predictions"][0]["index"], len(found["superpixels"])
            if said != expected[at]:
                wrong.append((photos[at].name, said, expected[at]))
            if one == 200:
                memory[0] = _memory(process)

    threads = [threading.Thread(target=client) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return (
        f"{n_requests} requests, {len(wrong)} answers other than the library's {wrong[:3] or ''}; "
        f"memory {memory[0]:.0f} MB after 200, {_memory(process):.0f} MB at the end"
    )


def main() -> None:
    """Print a table for README and documentation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", required=True)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--n-checked", type=int, default=2000)
    given = parser.parse_args()
    photos = sorted(path for path in Path(given.photos).iterdir() if path.is_file())
    bodies = [_form(path) for path in photos]
    command = [sys.executable, "-c", _FORWARDS, *map(str, photos[:8])]
    forward = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    print(f"a bare forward: {1000 * forward:.1f} ms, {1 / forward:.1f} a second\n")
    print("| route | clients | a second | of bare forwards | median | p95 | p95 in forwards |")
    print("|---" * 7 + "|")
    with _server() as (port, process):
        for route in ("segment", "explain"):
            _load(port, route, bodies, 2, 3.0)
            for clients in (1, 4, 16):
                times = _load(port, route, bodies, clients, given.seconds)
                rate = len(times) / given.seconds
                late = statistics.quantiles(times, n=20)[-1]
                print(
                    f"| {route} | {clients} | {rate:.1f} | {rate * forward:.2f} | "
                    f"{1000 * statistics.median(times):.0f} ms | {1000 * late:.0f} ms | "
                    f"{late / forward:.1f} |",
                    flush=True,
                )
        print(f"\n{_check(port, process, photos, given.n_checked)}")


if __name__ == "__main__":
    main()
