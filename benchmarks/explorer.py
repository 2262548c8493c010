"""The explorer under many visitors and in bad hands: four trials, each printed as a line.

Run: python benchmarks/explorer.py [--visitors 20] [--seconds 60] [--pause 1] [--files 500]
     [--uploads 200]

Starts ``naspix app`` (extra ``app``) in a process of its own and asks it as its page does, by HTTP.
Every visitor has another photo and checks after each click that the scores are its own photo's.
Memory is read from /proc, so the last trial wants Linux.
"""

import argparse
import io
import json
import random
import re
import secrets
import statistics
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "app"))
from hostile_files import hostile_files

_START = "import sys; from naspix.cli import main; sys.exit(main(sys.argv[1:]))"


class Visitor:
    """One page, without a browser."""

    def __init__(self, address: str) -> None:
        self.address, self.key = address, secrets.token_hex(16)

    def ask(self, action: str, content: bytes = b"", **fields: object) -> dict:
        """Ask, and follow longer work to its end."""
        answer = self._post(action, content, fields)
        while "job" in answer:
            answer = self._post(f"follow?job={answer['job']}", b"", {})
        return answer

    def _post(self, action: str, content: bytes, fields: dict) -> dict:
        body, kind = json.dumps(fields).encode(), "application/json"
        if action == "photo":
            action, body = f"{action}?{urllib.parse.urlencode(fields)}", content
            kind = "application/octet-stream"
        headers = {"X-Naspix-Visitor": self.key, "Content-Type": kind}
        asked = urllib.request.Request(f"{self.address}/api/{action}", body, headers)
        try:
            with urllib.request.urlopen(asked, timeout=120) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:  # refused in a sentence, too
            return json.load(error)


def photo(seed: int, side: int = 480) -> bytes:
    """Waves of random colours as a JPEG."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side
    waves = sum(
        np.sin(2 * np.pi * (a * x + b * y) + c)[..., None] * generator.random(3)
        for a, b, c in generator.normal(0, 4, (6, 3))
    )
    buffer = io.BytesIO()
    Image.fromarray((127 + 40 * waves).clip(0, 255).astype(np.uint8)).save(buffer, "jpeg")
    return buffer.getvalue()


def clicking(address: str, n: int, seconds: float, pause: float) -> None:
    """Visitors click at once, each on its own photo."""
    times: list[float] = []
    wrong: list[str] = []
    ready = threading.Barrier(n)

    def visit(number: int) -> None:
        visitor = Visitor(address)
        state = visitor.ask("photo", content=photo(number), name=f"{number}.jpg")
        own = [(bar["index"], round(bar["before"], 6)) for bar in state["scores"]["bars"]]
        hidden: set[int] = set()
        ready.wait(300)
        end, dice = time.monotonic() + seconds, random.Random(number)
        while time.monotonic() < end:
            chosen = dice.randrange(state["regions"]["n"])  # hardly a state comes twice
            start = time.perf_counter()
            answer = visitor.ask("toggle", number=chosen)
            times.append(time.perf_counter() - start)
            hidden ^= {chosen}
            scores = answer.get("scores", {"bars": [], "hidden": None})
            back = [(bar["index"], round(bar["before"], 6)) for bar in scores["bars"][:5]]
            if back != own or scores["hidden"] != sorted(hidden):
                wrong.append(f"{number}: {answer.get('sentence', 'another photo')}")
            time.sleep(pause)
        if visitor.ask("hello")["photo"]["name"] != f"{number}.jpg":
            wrong.append(f"{number}: another photo")

    threads = [threading.Thread(target=visit, args=[i]) for i in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    times.sort()
    print(
        f"{n} visitors, {seconds:g} s, {pause:g} s between clicks: {len(times)} clicks, "
        f"median {statistics.median(times):.3f} s, 95 % below "
        f"{times[int(0.95 * len(times))]:.3f} s, "
        f"{len(wrong)} wrong or refused{': ' + wrong[0] if wrong else ''}"
    )


def odd_files(address: str, n: int) -> None:
    """Each of many odd and hostile files is answered."""
    visitor = Visitor(address)
    read = refused = silent = 0
    sentences: set[str] = set()
    slowest = 0.0
    for what, content in hostile_files(n):
        start = time.perf_counter()
        answer = visitor.ask("photo", content=content, name="odd file")
        slowest = max(slowest, time.perf_counter() - start)
        if answer["ok"]:
            read += 1
        elif answer.get("sentence") and "should not have" not in answer["sentence"]:
            refused += 1
            sentences.add(re.sub(r"\d+", "N", answer["sentence"]))
        else:
            silent += 1
            print("not answered well:", what, answer)
    alive = visitor.ask("sample", name="chelsea")["ok"]
    print(
        f"{n} odd and hostile files: {read} read, {refused} refused in one of {len(sentences)} "
        f"sentences, {silent} neither; slowest {slowest:.2f} s; the server "
        f"{'lives on' if alive else 'is gone'}"
    )


def uploads(address: str, n: int, process: int) -> None:
    """Memory over many uploads, each by a visitor of its own."""

    def resident() -> float:
        status = Path(f"/proc/{process}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024

    marks = [(0, resident())]
    for i in range(n):
        answer = Visitor(address).ask("photo", content=photo(i, 1200), name=f"{i}.jpg")
        assert answer["ok"], answer
        if i + 1 in (n // 4, n // 2, 3 * n // 4, n):
            marks.append((i + 1, resident()))
    print(
        f"{n} uploads of 1200 x 1200 pixels, each by another visitor: resident memory "
        + ", ".join(f"{mib:.0f} MiB after {count}" for count, mib in marks)
    )


def slider(address: str) -> None:
    """The number of clusters is moved from 2 to 40, by k-means and along Ward's tree."""
    visitor = Visitor(address)
    visitor.ask("sample", name="chelsea")
    for algorithm in ("kmeans", "ward"):
        start = time.perf_counter()
        visitor.ask("segment", algorithm=algorithm, n_clusters=2)
        first = time.perf_counter() - start
        times = []
        for k in range(2, 41):
            start = time.perf_counter()
            assert visitor.ask("segment", algorithm=algorithm, n_clusters=k)["ok"]
            times.append(time.perf_counter() - start)
        print(
            f"{algorithm} at 224 x 224: first cut {first:.2f} s, then a move of the slider takes "
            f"{1000 * statistics.median(times):.0f} ms (median), {1000 * max(times):.0f} ms at most"
        )


def main() -> None:
    """Run the trials."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--visitors", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--pause", type=float, default=1)
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--uploads", type=int, default=200)
    options = parser.parse_args()
    command = [sys.executable, "-W", "ignore", "-c", _START, "app", "--port", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        for line in server.stderr:
            if "the explorer is at " in line:
                break
        address = line.split("the explorer is at ")[1].split()[0].rstrip("/")
        threading.Thread(target=server.stderr.read, daemon=True).start()
        slider(address)
        if options.visitors:
            clicking(address, options.visitors, options.seconds, options.pause)
        if options.files:
            odd_files(address, options.files)
        if options.uploads:
            uploads(address, options.uploads, server.pid)
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
