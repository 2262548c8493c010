"""The wheel holds what the product needs: installed elsewhere, it works without the checkout.

Slow (about half a minute), and without a network: the build uses the scikit-build-core that is
installed, and the new environment sees the libraries of the one that runs the tests.
"""

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def _run(*command: str | Path, cwd: Path, environment: dict[str, str] = ENVIRONMENT) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    _run(
        sys.executable, "-m", "pip", "wheel", ROOT,
        "--no-build-isolation", "--no-deps", "--no-index", "--wheel-dir", folder,
        cwd=folder,
    )  # fmt: skip
    (built,) = folder.glob("naspix-*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new environment with the wheel installed in it."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=os.name != "nt")
    python = folder / ("Scripts" if os.name == "nt" else "bin") / Path(sys.executable).name
    if not python.exists():
        python = python.with_name("python")
    _run(
        sys.executable, "-m", "pip", "--python", python, "install",
        "--no-deps", "--no-index", wheel,
        cwd=folder,
    )  # fmt: skip
    # after its own packages, the new environment looks for libraries where this one has them
    home = Path(_run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))",
                     cwd=folder).strip())  # fmt: skip
    libraries = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (home / "libraries.pth").write_text("\n".join(libraries) + "\n", encoding="utf-8")
    return python


def test_the_installed_naspix_is_the_wheel_s(python: Path, tmp_path: Path) -> None:
    home = _run(python, "-c", "import naspix; print(naspix.__file__)", cwd=tmp_path).strip()
    assert Path(home).is_relative_to(python.parent.parent)
    assert (Path(home).parent / "py.typed").is_file()
    route = _run(
        python, "-c", "from naspix import native; print(native.describe_route())", cwd=tmp_path
    )
    if shutil.which("c++") or shutil.which("g++") or shutil.which("clang++"):
        assert route.startswith("compiled")


def test_without_a_compiler_the_wheel_is_pure(tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("uname", "env", "sh", "cmake", "ninja", "make"):
        found = shutil.which(name)
        if found:
            (tools / name).symlink_to(found)
    _run(
        sys.executable, "-m", "pip", "wheel", ROOT,
        "--no-build-isolation", "--no-deps", "--no-index", "--wheel-dir", tmp_path / "built",
        cwd=tmp_path, environment={**ENVIRONMENT, "PATH": str(tools), "CC": "", "CXX": ""},
    )  # fmt: skip
    (built,) = (tmp_path / "built").glob("naspix-*.whl")
    assert built.name.endswith("py3-none-any.whl")


def test_explain_works_away_from_the_checkout(python: Path, tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image

    rows, columns = np.mgrid[:120, :160]
    photo = np.stack([rows * 2, columns, (rows // 20 + columns // 20) % 2 * 255], axis=2)
    Image.fromarray(photo.astype(np.uint8)).save(tmp_path / "photo.png")
    command = python.parent / "naspix"
    _run(command, "explain", "photo.png", "--output", "results", cwd=tmp_path)

    results = json.loads((tmp_path / "results" / "results.json").read_text(encoding="utf-8"))
    assert results
    page = (tmp_path / "results" / "report.html").read_text(encoding="utf-8")
    assert page.lstrip().lower().startswith("<!doctype html")
    pictures = list((tmp_path / "results").rglob("*.png"))
    assert pictures
    assert all(picture.stat().st_size > 0 for picture in pictures)
