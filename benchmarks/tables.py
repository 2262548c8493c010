"""Write the figures of a benchmark into the documentation and the README.

Run: naspix bench --photos FOLDER --json > bench.json; python benchmarks/tables.py bench.json

The text around the tables stays; what lies between two marks, ``<!-- NAME -->`` and
``<!-- end NAME -->``, is written anew.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

from naspix.cli.bench import SECTION_TITLES

ROOT = Path(__file__).parent.parent
_MAIN = {
    ("NAS", "SLIC"): "NAS, given the activations",
    ("NAS, tol=0", "SLIC"): "the same, run to the fixed point",
    ("NAS, torch route", "SLIC"): "the same without the compiled part",
    ("NAS", "OpenCV SLIC"): "NAS against OpenCV's SLIC",
    ("NAS", "Felzenszwalb"): "NAS against Felzenszwalb",
    ("NAS", "Algorithm 1, dense"): "NAS against Algorithm 1 as written, with scikit-learn",
}


def main(path: str) -> None:
    """Render the records of ``path``."""
    result = json.loads(Path(path).read_text())
    machine, records = result["machine"], result["records"]
    _between(ROOT / "docs" / "benchmarks.md", "figures", figures(machine, records))
    _between(ROOT / "README.md", "speed table", speed_table(machine, records))


def figures(machine: dict[str, Any], records: list[dict[str, Any]]) -> str:
    """The machine, and one table a section."""
    libraries = ("python", "torch", "scikit-image", "scikit-learn", "scipy", "numpy", "naspix")
    parts = [
        f"{machine['date']}, {machine['system']}; "
        + ", ".join(f"{name} {machine[name]}" for name in libraries)
        + f"; {_computer(machine)}; NAS on the CPU: {machine['clustering']}."
    ]
    header = ["what", "network", "size", "threads", "ms", "against", "its ms", "figure", "goal", ""]
    for section, title in SECTION_TITLES.items():
        found = [record for record in records if record["section"] == section]
        if found:
            rows = [_row(record) for record in found]
            notes = dict.fromkeys(f"{r['name']}: {r['note']}." for r in found if r["note"])
            parts += [f"### {title}", _table(header, rows), *notes]
    return "\n\n".join(parts)


def speed_table(machine: dict[str, Any], records: list[dict[str, Any]]) -> str:
    """The main rows, both sizes side by side."""
    main_rows = [
        record
        for record in records
        if record["section"] == "nas" and record["threads"] == machine["threads"]
    ]
    sizes = sorted({record["size"] for record in main_rows})
    rows = []
    for (name, rival), title in _MAIN.items():
        cells = [
            record
            for size in sizes
            for record in main_rows
            if (record["name"], record["against"], record["size"]) == (name, rival, size)
        ]
        if all(record["figure"] is not None for record in cells):
            rows.append([title, *(_comparison(record) for record in cells)])
    table = _table(["one photo", *(f"{size} x {size}" for size in sizes)], rows)
    return (
        f"{table}\n\nMedians of one run of `naspix bench` on {_computer(machine)}, "
        f"{machine['threads']} threads, {machine['clustering']}; ResNet18, levels 2 to 4, K = 5, "
        f"{main_rows[0]['n_photos']} photos."
    )


def _computer(machine: dict[str, Any]) -> str:
    return f"{machine['processor']}, {machine['cores']} cores, {machine['cuda_device'] or 'no'} GPU"


def _comparison(record: dict[str, Any]) -> str:
    times = f"{_number(record['median_ms'])} ms against {_number(record['against_median_ms'])} ms"
    return f"{times}: **{_figure(record)}**"


def _row(record: dict[str, Any]) -> list[str]:
    levels = record["levels"] or []
    span = f"{levels[0]}-{levels[-1]}" if len(levels) > 1 else "".join(map(str, levels))
    goal = ""
    if record["goal"] is not None:
        goal = f"{'at least' if record['goal_is_at_least'] else 'at most'} {record['goal']:g}"
    verdict = {True: "met", False: "**not met**", None: ""}[record["met"]]
    return [
        record["name"],
        f"{record['network']} {span} K={record['n_clusters']}" if record["network"] else "",
        str(record["size"] or ""),
        str(record["threads"] or ""),
        _number(record["median_ms"]),
        record["against"],
        _number(record["against_median_ms"]),
        _figure(record),
        goal,
        verdict,
    ]


def _figure(record: dict[str, Any]) -> str:
    value = record["figure"]
    if value is None:
        return "not measured"
    precise = "inertia" in record["name"]
    return f"{f'{value:.4f}' if precise else _number(value)} {record['unit']}"


def _number(value: float | None) -> str:
    """Three figures, without an exponent."""
    if value is None:
        return ""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _between(path: Path, name: str, text: str) -> None:
    start, end = f"<!-- {name} -->", f"<!-- end {name} -->"
    pattern = re.compile(re.escape(start) + ".*?" + re.escape(end), re.DOTALL)
    content, n = pattern.subn(lambda _: f"{start}\n\n{text}\n\n{end}", path.read_text())
    if n != 1:
        raise SystemExit(f"{path} has {n} places marked {start} ... {end}; it needs one")
    path.write_text(content)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(sys.argv[1])
