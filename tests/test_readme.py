"""The Python in the README and in the documentation's pages runs, page by page, top to bottom.

Each page is one program. Its code sees a folder that holds one photo, ``cat.jpg``, and a folder
``kangaroo`` of one photo with a box in Pascal VOC's XML.
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs" / "tutorial").glob("*.md")),
    *sorted((ROOT / "docs" / "howto").glob("*.md")),
]
ANNOTATION = """<annotation><filename>00001.jpg</filename>
<size><width>451</width><height>300</height><depth>3</depth></size>
<object><name>kangaroo</name><bndbox>
<xmin>80</xmin><ymin>20</ymin><xmax>380</xmax><ymax>290</ymax></bndbox></object></annotation>"""
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def _program(page: Path) -> str:
    """The page's code at its own line numbers, so that a traceback points into the page."""
    text = page.read_text(encoding="utf-8")
    if not _BLOCK.search(text):
        return ""
    lines = [""] * (text.count("\n") + 1)
    for block in _BLOCK.finditer(text):
        first = text[: block.start(1)].count("\n")
        code = block.group(1).splitlines()
        lines[first : first + len(code)] = code
    return "\n".join(lines)


@pytest.mark.parametrize("page", list(filter(_program, PAGES)), ids=lambda page: page.stem)
def test_the_code_of_a_page_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib import pyplot
    from PIL import Image
    from skimage import data

    Image.fromarray(data.chelsea()).save(tmp_path / "cat.jpg")
    (tmp_path / "kangaroo").mkdir()
    Image.fromarray(data.chelsea()).save(tmp_path / "kangaroo" / "00001.jpg")
    (tmp_path / "kangaroo" / "00001.xml").write_text(ANNOTATION, encoding="utf-8")
    for name, picture in (("cats", data.chelsea()), ("cups", data.coffee())):
        (tmp_path / "my-pictures" / name).mkdir(parents=True)
        for i in range(3):
            Image.fromarray(picture).save(tmp_path / "my-pictures" / name / f"{i}.jpg")
    if page.stem == "finetune":
        pytest.importorskip("lightning", reason="needs the extra train")
    monkeypatch.chdir(tmp_path)
    exec(compile(_program(page), str(page), "exec"), {"__name__": "__main__"})
    pyplot.close("all")


def test_the_readme_names_both_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "pip install . && naspix explain\n" in text
    assert "pip install '.[test]' && pytest\n" in text


def test_pictures_that_pages_show_exist() -> None:
    for page in PAGES:
        for target in re.findall(r"!\[[^]]*]\(([^)]+)\)", page.read_text(encoding="utf-8")):
            if "gallery/" in target:  # made when the documentation is built
                continue
            assert (page.parent / target).is_file(), f"{page.name} shows {target}"
