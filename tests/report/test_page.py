"""The page: begins with a sentence, numbers regions, links rows with them, counts fragments."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from naspix.report import PhotoExplanation, Prediction, ResultsFolder, RunRecord, page
from naspix.report.regions import half_of, in_a_sentence, outlines
from naspix.superpixelify import RankedSuperpixel

RUN = RunRecord(settings={"model": "none"}, versions={"naspix": "0"}, created="today")
CAT, DOG = Prediction(1, "cat", 0.9), Prediction(0, "dog", 0.1)


def _photo(name: str = "a", sign: float = 1.0) -> PhotoExplanation:
    """Three regions of 100 x 100 pixels, one with a hole, and a fragment of four pixels in it."""
    labels = np.zeros((100, 100), np.int64)
    labels[:, 50:], labels[80:, 50:], labels[10:12, 60:62] = 1, 2, 3
    means = sign * np.array([0.1, 1.0, 3.0, 9.0])
    ranking = []
    for label in np.argsort(-means):
        rows, columns = np.nonzero(labels == label)
        box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        ranking.append((int(label), len(rows), tuple(map(int, box)), float(means[label])))
    heat = means[labels].astype(np.float32)
    return PhotoExplanation(
        name=name,
        source=f"{name}.jpg",
        image=np.full((100, 100, 3), 0.5, np.float32),
        predictions=(CAT, DOG),
        target=CAT,
        segmentations={"nas": (np.minimum(labels, 1), labels)},
        raw={"IG 50": heat},
        pooled={("IG 50", "nas"): heat},
        ranking={
            ("IG 50", "nas"): [RankedSuperpixel(i + 1, *one) for i, one in enumerate(ranking)]
        },
    )


class _Links(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.hrefs: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name == "href" and (value or "").startswith("#"):
                self.hrefs.append((value or "")[1:])


def test_rows_and_regions_lead_to_each_other() -> None:
    text = page([_photo("a"), _photo("b 1")], RUN)
    links = _Links(text)
    assert len(set(links.ids)) == len(links.ids)
    assert set(links.hrefs) <= set(links.ids)
    for label in (0, 1, 2):
        assert {f"photo-a-nas-{label}", f"photo-a-IG-50-nas-{label}"} <= set(links.hrefs)
        assert f"photo-b-1-nas-{label}" in links.hrefs
        assert len(re.findall(rf">{label}</text>", text)) == 2
    assert "http" not in text.replace("http://www.w3.org", "")


def test_regions_without_a_row_have_a_number_and_lead_nowhere() -> None:
    labels = np.arange(100 * 100).reshape(100, 100) // 500
    ranking = [
        RankedSuperpixel(i + 1, i, 500, (0, 5 * i, 100, 5 * i + 5), 20.0 - i) for i in range(20)
    ]
    heat = (20.0 - labels).astype(np.float32)
    several = replace(
        _photo(),
        segmentations={"nas": (labels, labels)},
        raw={"IG 50": heat},
        pooled={("IG 50", "nas"): heat},
        ranking={("IG 50", "nas"): ranking},
    )
    text = page([several], RUN)
    links = _Links(text)
    assert set(links.hrefs) <= set(links.ids)
    assert len(re.findall(r">\d+</text>", text)) == 20
    assert "and 8 more" in text


def test_fragments_are_counted_below_the_ranking() -> None:
    text = page([_photo()], RUN)
    assert ">3</text>" not in text
    assert "1 fragment below 0.1% of the picture left out" in text
    ranks = re.findall(r"<tr id=\"[^\"]*\"><td>(\d)</td><td><a href=\"[^\"]*\">(\d)</a>", text)
    assert ranks == [("1", "2"), ("2", "1"), ("3", "0")]


def test_a_section_begins_with_a_plain_sentence() -> None:
    photo = _photo()
    said = in_a_sentence(photo)
    assert said == (
        "The network sees \u201ccat\u201d in this photo (90.0%). By IG 50, half of what speaks for "
        "it lies in 2 of 3 regions, 50% of the picture: number 2 and 1."
    )
    assert said in page([photo], RUN)
    dog = in_a_sentence(replace(photo, target=DOG))
    assert (
        "sees \u201ccat\u201d in this photo (90.0%), and was asked about \u201cdog\u201d (10.0%)."
        in dog
    )
    against = in_a_sentence(_photo(sign=-1.0))
    assert against.endswith("By IG 50, no region speaks for it.")
    number = Prediction(0, "age", 31.5, is_probability=False)
    said = in_a_sentence(replace(photo, predictions=(number,), target=number))
    assert said.startswith("The network gives this photo 31.5 for \u201cage\u201d. By IG 50, half")


def test_several_photos_begin_with_a_sentence_about_all(tmp_path) -> None:
    words = "In 2 photos, half of what speaks for the class lies on average in 50% of the picture"
    assert words in page([_photo("a"), _photo("b")], RUN)
    assert words not in page([_photo("a")], RUN)
    with ResultsFolder(tmp_path, RUN) as results:
        for photo in (_photo("a"), _photo("b"), _photo("c", sign=-1.0)):
            results.add(photo)
    assert words.replace("2", "2 of 3", 1) in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("regions", "labels"),
    [
        ([(0, 50, 1.0), (1, 50, 1.0)], (0,)),
        ([(0, 20, 1.0), (1, 80, 0.5)], (0, 1)),
        ([(0, 50, 0.0), (1, 50, -1.0)], ()),
    ],
)
def test_half_is_reached_and_no_region_more(regions, labels) -> None:
    half = half_of(regions, 100)
    assert half.labels == labels
    mass = {label: area * mean for label, area, mean in regions if mean > 0}
    assert sum(mass[label] for label in labels) >= sum(mass.values()) / 2
    assert sum(mass[label] for label in labels[:-1]) < max(sum(mass.values()) / 2, 1e-9)


def test_outlines_lie_around_their_regions() -> None:
    """Drawn and filled as a browser does, evenodd, they cover the region to a pixel of its edge."""
    import cv2

    photo = _photo()
    labels = photo.segmentations["nas"][1]
    for one in outlines(labels, photo.ranking["IG 50", "nas"], 2):
        drawn = np.zeros(labels.shape, np.uint8)
        for line in one["path"].strip("MZ").split("ZM"):
            corners = [[float(word) for word in point.split()] for point in line.split("L")]
            filled = np.zeros_like(drawn)
            cv2.fillPoly(filled, [np.round(np.array(corners) - 0.5).astype(np.int32)], 1)
            drawn ^= filled
        mask = labels == one["label"]
        apart = (drawn > 0) != mask
        inner = cv2.erode(mask.astype(np.uint8), np.ones((3, 3))) > 0
        outer = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3))) > 0
        assert not (apart & (inner | ~outer)).any()
        assert labels[int(one["y"]), int(one["x"])] == one["label"]
