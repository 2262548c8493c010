"""Count how large the code is and how far a photo walks through it.

    python benchmarks/house.py [--source src] [--photos FOLDER] [--boxes FOLDER]

The rules. *Lines* and *files* are those of Python below ``src/naspix``. *Private with one call*: a
function whose name begins with one underscore, and that is named once in its own file besides its
definition. *Imports*: lines of import statements over lines that are neither blank, comment nor
docstring. *Functions and files passed*: distinct functions, and their files, of ``src/naspix`` that
``sys.setprofile`` sees, in all threads, during a second call for one photo in the same process.
*Forwards*: calls of the network in the second call for one photo of ``naspix explain``. *Circles*:
strongly connected groups of files by their imports, those made inside functions counted too.
"""

import argparse
import ast
import contextlib
import io
import re
import sys
import tempfile
import threading
import tokenize
from pathlib import Path
from types import FrameType


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, default=Path(__file__).parents[1] / "src")
    parser.add_argument("--photos", type=Path, help="A folder of photos, one of which walks.")
    parser.add_argument("--boxes", type=Path, help="A folder of photos with boxes in VOC's XML.")
    given = parser.parse_args()
    package = given.source / "naspix"
    rows = static(package)
    sys.path.insert(0, str(given.source))
    if given.photos:
        photo = sorted(given.photos.rglob("*.jpg"))[0]
        rows |= walked("naspix explain", package, ["explain", str(photo)])
        rows["forwards of the network, naspix explain"] = forwards(["explain", str(photo)])
    if given.boxes:
        command = ["evaluate", "wsol", "--dataset", "voc", "--root", str(given.boxes)]
        rows |= walked("naspix evaluate wsol", package, [*command, "--limit", "1"])
    for name, value in rows.items():
        print(f"{name:<48} {value}")


def static(package: Path) -> dict[str, object]:
    """What the files say."""
    files = sorted(package.rglob("*.py"))
    texts = {file: file.read_text("utf-8") for file in files}
    private = n_code = n_imports = 0
    for text in texts.values():
        tree = ast.parse(text)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                name = node.name
                if name.startswith("_") and not name.startswith("__"):
                    private += len(re.findall(rf"\b{name}\b", text)) == 2
            if isinstance(node, ast.Import | ast.ImportFrom):
                n_imports += (node.end_lineno or node.lineno) - node.lineno + 1
        n_code += len(code_lines(text, tree))
    return {
        "lines of Python": sum(len(text.splitlines()) for text in texts.values()),
        "files": len(files),
        "private functions with one call": private,
        "share of code that is imports": f"{n_imports / n_code:.1%}",
        "circles among files": circles(package, texts),
    }


def code_lines(text: str, tree: ast.Module) -> set[int]:
    """Lines that are neither blank, comment nor docstring."""
    lines: set[int] = set()
    skipped = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in skipped and token.string.strip():
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                lines -= set(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return lines


def circles(package: Path, texts: dict[Path, str]) -> int:
    """How many groups of files import each other in a loop."""
    import networkx

    names = {}
    for file in texts:
        parts = file.relative_to(package.parent).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    graph = networkx.DiGraph()
    for name, file in names.items():
        if file.name == "__init__.py":
            continue  # a face hands names on
        for node in ast.walk(ast.parse(texts[file])):
            if isinstance(node, ast.ImportFrom) and node.module and node.module in names:
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    target = inner if inner in names else node.module
                    if names[target].name != "__init__.py":
                        graph.add_edge(name, target)
    return sum(len(group) > 1 for group in networkx.strongly_connected_components(graph))


def walked(title: str, package: Path, command: list[str]) -> dict[str, object]:
    """The functions and files that the second of two equal calls passes."""
    home = str(package.resolve())
    passed: set[tuple[str, str]] = set()

    def look(frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(home) and code.co_name[0] != "<":
            passed.add((code.co_filename, code.co_qualname))

    _called(command)
    threading.setprofile(look)
    sys.setprofile(look)
    try:
        _called(command)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return {f"functions / files passed, {title}": f"{len(passed)} / {len({f for f, _ in passed})}"}


def forwards(command: list[str]) -> int:
    """How often the network itself is called."""
    from naspix.models import Classifier

    calls: list[int] = []
    before = Classifier._ask if hasattr(Classifier, "_ask") else None
    assert before is not None
    Classifier._ask = lambda self, images: (calls.append(len(images)), before(self, images))[1]
    try:
        _called(command)
        calls.clear()
        _called(command)
    finally:
        Classifier._ask = before
    return len(calls)


def _called(command: list[str]) -> None:
    from naspix.cli import main as naspix

    with tempfile.TemporaryDirectory() as output, contextlib.ExitStack() as quiet:
        quiet.enter_context(contextlib.redirect_stdout(io.StringIO()))
        quiet.enter_context(contextlib.redirect_stderr(io.StringIO()))
        status = naspix([*command, "--output", output])
    if status:
        raise SystemExit(f"naspix {' '.join(command)} ended with {status}")


if __name__ == "__main__":
    main()
