"""The paper's numbers, against a transcription made by hand, and beside ours."""

import pytest

from naspix.paper.published import published

# read from the paper by hand, not by the script that wrote the files
TABLE_1 = """
right IG 4 0.446 0.441 |LRP 8 0.328 0.182 |GC 10 0.367 0.428 |RISE 8 0.535 0.458 |XRAI 8 0.544 0.358
wrong IG 1 0.418 0.413 |LRP 8 0.312 0.195 |GC 10 0.375 0.436 |RISE 4 0.494 0.468 |XRAI 8 0.533 0.377
"""
TABLE_2 = """
IG   47.7 19.2 | 42.1  24.9 | 46.9  31.1
LRP  25.1 13.7 | 69.3* 19.1 | 61.3  28.6
GC   47.4 31.2 | 65.9* 49.6 | 65.9* 40.5
RISE 64.1 47.2 | 71.1  25.1 | 76.9  53.4
XRAI 53.5 22.1 | 63.9* 25.1 | 69.2* 35.7
"""
TABLE_3 = """
IG   36.7 68.8 31.4  9.9 | +1.5 +5.0  +0.9  -1.5 | +1.5 -1.1 +3.3  +2.4
LRP  63.6 95.4 71.3 24.0 | -8.1 -1.5 -11.5 -11.5 | +0.8 -3.8 -2.7  +9.0
GC   57.1 97.4 63.9  9.9 | -1.1 -1.0  -3.4  +1.1 | +8.9 -3.0 +8.6 +21.1
RISE 32.4 65.3 26.2  5.7 | +0.7 +0.9  +1.2  +0.1 | +6.4 +2.6 +9.4  +7.0
XRAI 31.3 63.2 24.9  6.0 | +0.9 +0.8  +1.6  +0.2 | +4.9 +2.0 +7.4  +5.3
"""
NAMES = {"IG": "Integrated Gradients", "GC": "Grad-CAM++"}
MAPS = ("raw", "SLIC", "NAS")
FIGURES = ("MaxBoxAccV2", "IoU 30", "IoU 50", "IoU 70")


def _lines(text: str) -> list[list[list[str]]]:
    return [
        [cell.split() for cell in line.split("|")] for line in text.strip().splitlines() if line
    ]


def test_table_1():
    found = {tuple(row[:2]): tuple(row[2:]) for row in published("table1").printed.rows}
    expected = {}
    for (predictions, *first), *others in _lines(TABLE_1):
        for method, *numbers in (first, *others):
            expected[predictions, NAMES.get(method, method)] = tuple(numbers)
    assert found == expected


def test_table_2():
    paper = published("table2")
    table = paper.printed
    bold = {tuple(table.rows[down][:2]) for down, _ in table.marked}
    expected_bold = set()
    for (name, *first), *others in _lines(TABLE_2):
        for kind, (mean, spread) in zip(MAPS, (first, *others), strict=True):
            row = (NAMES.get(name, name), kind)
            assert paper.value(row, "AUC-LeRF") == float(mean.rstrip("*"))
            assert paper.value(row, "±") == float(spread)
            if mean.endswith("*"):
                expected_bold.add(row)
    assert bold == expected_bold
    assert paper.value(("Greedy maximum", "SLIC"), "AUC-LeRF") == 87.8
    assert paper.value(("Greedy maximum", "NAS"), "±") == 52.6


def test_table_3_and_that_table_4_repeats_it():
    small, large = published("table3"), published("table4")
    for (name, *first), *others in _lines(TABLE_3):
        for kind, numbers in zip(MAPS, (first, *others), strict=True):
            row = (NAMES.get(name, name), kind)
            (printed,) = (one[2:] for one in small.printed.rows if tuple(one[:2]) == row)
            assert printed == numbers
            for figure, number in zip(FIGURES, numbers, strict=True):
                assert small.value(row, figure) == float(number)
                assert large.value(("ResNet18", *row), figure) == float(number)


def test_misprints_are_those_that_contradict_their_row():
    paper = published("table4")
    assert len(paper.cells) == 45
    for cells in paper.cells:
        row = cells[:3]
        mean, *others = (paper.value(row, figure) for figure in FIGURES)
        misprinted = abs(mean - sum(others) / 3) > 0.1 + 1e-9
        assert misprinted == cells[3].endswith("†")
        assert misprinted == (row[0] == "VGG16" and row[1] in ("RISE", "XRAI"))


def test_table_5_is_in_milliseconds():
    paper = published("table5")
    assert paper.value(("NAS", "2 to 4", "5"), "VGG16") == 11.9
    assert ("NAS", "2 to 4", "5", "_11.9_", "13.9 (833.3)", "14.9", "") in paper.cells
    numbers = [[paper.value(cells[:3], name) for name in paper.columns[3:6]]
               for cells in paper.cells[:4]]  # fmt: skip
    assert numbers == [
        [16.6, 15.7, 17.4],
        [19.6, 19.9, 27.2],
        [11.9, 13.9, 14.9],
        [16.4, 17.9, 19.9],
    ]
    assert paper.value(("SLIC", "", ""), "CPU") == 2.6
    assert paper.value(("Felzenszwalb", "", ""), "CPU") == 2.3


def test_every_number_is_there():
    n_numbers = {
        name: sum(
            published(name).value(cells[: published(name).n_keys], column) is not None
            for cells in published(name).cells
            for column in published(name).columns[published(name).n_keys :]
        )
        for name in ("table1", "table2", "table3", "table4", "table5")
    }
    # and the time by Ward, in brackets in a cell of table 5
    assert n_numbers == {"table1": 30, "table2": 34, "table3": 60, "table4": 180, "table5": 14}


def test_ours_stand_beside_the_papers_cells_alone():
    ours = {(("LRP", "NAS"), "IoU 70"): 10.0, (("mine", "NAS"), "IoU 70"): 5.0}
    table = published("table3").beside(ours)
    assert table.rows == [["LRP", "NAS", "IoU 70", 10.0, 9.0, 1.0]]
    assert published("figure3").printed is None
    assert published("table3").value(("LRP", "NAS"), "method") is None


@pytest.mark.parametrize("name", ["table2", "table3"])
def test_words_say_what_the_numbers_are(name):
    assert "In %" in published(name).words
