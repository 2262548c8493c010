"""The paper's tables 1 to 4 and figures 4 to 6 on a photo or two: against records, and redrawn."""

import csv
from collections.abc import Callable, Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest
import torch
from claims import JUDGED, assert_verdicts

import naspix
from naspix.errors import InputError
from naspix.evaluation.scores import Score
from naspix.evaluation.tables import title_of
from naspix.paper import data, maps, running
from naspix.paper.data import AtHand, Conditions, views
from naspix.paper.evaluations import METHODS
from naspix.paper.experiment import subruns
from naspix.paper.lerf import pooling_raises, slic_and_nas_alike, stays_below_maximum
from naspix.paper.localisation import LocalisationTable
from naspix.paper.segmentations import read_photos
from naspix.paper.semantics import as_salient_as_in_the_paper
from naspix.runs import Part, Run, Span, open_run, read_run

QUICK = Conditions(quick=True, limit=1)
DEFAULT = "efficientnet_lite0"
_NAMES = {title_of(method): method for method in METHODS}
_TAKEN_OVER = ("table4", "figure6")
_DRAWN = ("*.html", "*.png", "*.pdf", "*.csv")


def refuse(*_: object, **__: object) -> Iterator[object]:
    raise AssertionError("computed")


@pytest.fixture(autouse=True, scope="module")
def coarse() -> Iterator[None]:
    """Coarse pictures, which take less time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "DOTS", 60)
        yield


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of them, on one photo; table 1 and figure 4 on views of three."""
    folder = tmp_path_factory.mktemp("judged")
    for name in JUDGED:
        conditions = replace(QUICK, limit=3) if name in ("table1", "figure4") else QUICK
        engine = {"engine": refuse} if name in _TAKEN_OVER else {}
        running.reproduce(name, conditions, folder, **engine)
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_each_says_what_it_ran_on_and_is_drawn_again_from_records_alone(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("naspix.models.loading.load_model", refuse)
    monkeypatch.setattr(data, "load_model", refuse)
    for name in JUDGED:
        folder = output / name
        before = {f.name: f.read_bytes() for kind in _DRAWN for f in folder.glob(kind)}
        page = unescape(before["page.html"].decode())
        assert "scikit-image's photos" in page
        assert "--model-weights" in page
        assert any(each.endswith(".csv") for each in before)
        for each in before:
            (folder / each).unlink()
        running.render(folder)
        after = {f.name: f.read_bytes() for kind in _DRAWN for f in folder.glob(kind)}
        assert after == before, name


def test_every_claim_has_a_verdict_on_its_page(output: Path) -> None:
    for name in JUDGED:
        assert_verdicts(output / name)


def test_of_one_picture_an_object_is_found_or_not(output: Path) -> None:
    """The best threshold is the picture's own: accuracy is 100 % if any box overlaps enough."""
    frame = subruns(read_run(output / "table3"))[DEFAULT].records()
    assert len(frame) == len(METHODS) * 3
    printed = rows(output / "table3" / "localisation.csv")
    for place, row in enumerate(frame.to_dict("records")):
        raw = frame.iloc[place - place % 3]
        for figure in (30, 50, 70):
            found, before = (100 * (r["iou"].max(initial=0) >= figure / 100) for r in (row, raw))
            expected = f"{found:.1f}" if place % 3 == 0 else f"{found - before:+.1f}"
            assert printed[place][f"IoU {figure}"] == expected
    assert printed == rows(output / "table4" / "localisation.csv"), "the same network stands in"


def test_areas_are_those_under_the_curves_that_figure_6_shows(output: Path) -> None:
    frame = subruns(read_run(output / "table2"))[DEFAULT].records()
    areas = {
        row["map"]: float(row["value"]) / 100
        for row in rows(next((output / "table2").glob("int*")))
    }
    curves = rows(output / "figure6" / f"curves_{DEFAULT}.csv")
    assert len(frame) == len(areas) == len(curves) == len(METHODS) * 3 + 2
    for row, area, curve in zip(frame.to_dict("records"), areas.values(), curves, strict=True):
        assert area == pytest.approx(np.trapezoid(row["score"], row["fraction"]), abs=1e-5)
        at = [float(curve[f"{share}%"]) for share in range(0, 101, 10)]
        expected = np.interp(np.linspace(0, 1, 11), row["fraction"], row["score"])
        assert at == pytest.approx(expected)
        assert (at[0], at[-1]) == (1, 0)


def test_the_greedy_order_hides_each_superpixel_once_and_makes_the_recorded_curve(
    output: Path,
) -> None:
    (photo,) = maps._read(read_run(output / "figure5"))
    assert set(photo.raw) == set(METHODS)
    assert set(photo.superpixels) == set(photo.orders) == {"slic", "nas"}
    model = naspix.load_model(DEFAULT)
    image = torch.from_numpy(photo.image).permute(2, 0, 1)[None]
    for segmenter, superpixels in photo.superpixels.items():
        order = torch.from_numpy(photo.orders[segmenter])[None].long()
        labels = torch.from_numpy(superpixels)[None].long()
        n = int(labels.max()) + 1
        steps = [order[labels == label].unique().tolist() for label in range(n)]
        assert sorted(steps) == [[step] for step in range(n)]
        by_order = naspix.metrics.lerf(model, image, order.float(), superpixels=labels)
        best = naspix.metrics.greedy_lerf(model, image, labels)
        assert float(by_order.auc) == pytest.approx(float(best.auc), abs=0.01)


def test_a_class_has_the_same_clusters_in_all_photos(output: Path) -> None:
    shares = rows(output / "figure4" / "shares.csv")
    photos = [name for name in shares[0] if name != "cluster"]
    assert len(photos) == 3
    for photo in photos:
        assert sum(float(row[photo]) for row in shares) == pytest.approx(1)
    clusters = [
        photo.cuts["", "clusters of the class"].clusters
        for photo in read_photos(read_run(output / "figure4"))
    ]
    for place, photo in enumerate(photos):
        for row in shares:
            share = (clusters[place] == int(row["cluster"]) - 1).mean()  # counted from 1
            assert float(row[photo]) == pytest.approx(share)


def test_figure_4_and_table_1_follow_one_cluster_of_one_fit(output: Path) -> None:
    (file,) = (output / "class-clusters").glob("*.npz")
    figure, table = (read_run(output / name).header["found"] for name in ("figure4", "table1"))
    assert figure["fitted"] == table[f"fitted {DEFAULT}"]
    assert figure["fitted"]["file"] == str(file)
    kept = output / "table1" / "runs" / DEFAULT / "classes"
    assert (kept / f"class-{figure['fitted']['label']}.npz").read_bytes() == file.read_bytes()
    for name in ("figure4", "table1"):
        page = unescape((output / name / "page.html").read_text())
        assert "pixels of 4 pictures" in page  # half of the eight; the others are shown
        assert "nearest neighbours vote" in page
        assert "an adjusted Rand index of" in page
        assert f"cluster {figure['fitted']['cluster'] + 1} is followed, the first by the" in page


def test_no_cluster_is_more_salient_than_the_most_salient_one(output: Path) -> None:
    table = rows(output / "table1" / f"meaning_{DEFAULT}.csv")
    cluster = read_run(output / "table1").header["found"][f"fitted {DEFAULT}"]["cluster"] + 1
    frame = subruns(read_run(output / "table1"))[DEFAULT].records()
    assert len(frame) == 3 * len(METHODS)
    assert len(set(frame["label"])) == 1
    for row in table:
        of_row = frame[frame["method"] == _NAMES[row["method"]]]
        right = of_row["predicted"] == of_row["label"]
        chosen = of_row[right if row["predictions"] == "right" else ~right]
        assert int(row["pictures"]) == len(chosen)
        with np.errstate(invalid="ignore"):
            means = np.stack(list(chosen["sums"])).sum(0) / np.stack(list(chosen["weights"])).sum(0)
        assert int(row["most salient cluster"]) == int(np.nanargmax(means)) + 1
        followed = row[f"cluster {cluster}"]
        expected = means[cluster - 1]
        assert followed == "" if np.isnan(expected) else float(followed) == pytest.approx(expected)


def test_the_papers_numbers_stand_beside_ours_on_its_data_and_network_alone(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("table2", "table3"):
        experiment, run = running.find_experiment(name), read_run(output / name)
        assert "paper" not in {table.name for table in experiment.show(run).tables}
        page = unescape((output / name / "page.html").read_text())
        assert f"The paper's table {name[-1]} as printed" in page
        figures = ("auc", "iou_70")
        run.header["found"]["source"]["dataset"] = experiment.papers_data
        assert experiment.beside(run, figures) == [], "another network stands in for the paper's"
        monkeypatch.setattr(type(experiment), "networks", (DEFAULT,))
        (table,) = experiment.beside(run, figures)
        n_cells = {"table2": 17, "table3": 15}[name]
        assert len(table.rows) == n_cells
        for *_, here, paper, difference in table.rows:
            assert difference == here - paper
        assert max(abs(row[-3]) for row in table.rows) > 1, "in percent"


def score(
    low: float, high: float, *, n: int = 50, method: str = "lrp", figure: str = "iou_70",
    segmenter: str = "nas",
) -> Score:  # fmt: skip
    middle = (low + high) / 2
    return Score(
        method, segmenter, figure, 0.5, 0.4, 0.6, middle, low, high, None, n, 0, 20.0
    )  # fmt: skip


def gains(figure: str, segmenter: str, **of_methods: tuple[float, float]) -> list[Score]:
    return [
        score(*ends, method=method, figure=figure, segmenter=segmenter)
        for method, ends in of_methods.items()
    ]


UP, DOWN, OPEN = (0.02, 0.1), (-0.1, -0.02), (-0.02, 0.1)
SLIC = {"integrated_gradients": UP, "rise": UP, "xrai": UP, "lrp": DOWN}


@pytest.mark.parametrize(
    ("claim", "scores", "holds", "words"),
    [
        ("raises_iou_70", gains("iou_70", "nas", lrp=UP, rise=UP), True, "RISE +6.0"),
        ("raises_iou_70", gains("iou_70", "nas", lrp=UP, rise=OPEN), None, "Open: RISE; about"),
        ("raises_iou_70", gains("iou_70", "nas", lrp=UP, rise=DOWN), False, "Against it: RISE"),
        ("raises_iou_70", [score(*UP, n=19)], None, "19 pictures are too few"),
        ("raises_iou_70", [score(*DOWN, n=19)], None, "19 pictures are too few"),
        ("raises_iou_70", [], None, "0 pictures"),
        ("raises_mean", gains("mean", "nas", lrp=UP), True, "LRP +6.0"),
        ("raises_mean", gains("mean", "nas", lrp=DOWN), False, "Against it: LRP"),
        ("raises_mean", gains("mean", "nas", lrp=OPEN), None, "Open: LRP"),
        ("slic_raises_three", gains("mean", "slic", **SLIC), True, "LRP (not raised)"),
        (
            "slic_raises_three",
            gains("mean", "slic", **SLIC | {"lrp": UP}),
            False,
            "Against it: LRP",
        ),
        ("slic_raises_three", gains("mean", "slic", **SLIC | {"rise": OPEN}), None, "Open: RISE"),
        (
            "most_for_grad_cam",
            gains("iou_70", "nas", grad_cam_plus_plus=(0.2, 0.3), lrp=UP, rise=DOWN),
            True,
            "RISE +31.0",
        ),
        (
            "most_for_grad_cam",
            gains("iou_70", "nas", grad_cam_plus_plus=DOWN, lrp=UP),
            False,
            "Against it: LRP",
        ),
        (
            "most_for_grad_cam",
            gains("iou_70", "nas", grad_cam_plus_plus=UP, lrp=(0.01, 0.05)),
            None,
            "Open: LRP",
        ),
        ("lowers_iou_30", gains("iou_30", "nas", lrp=DOWN, rise=DOWN), True, "net +6.0"),
        ("lowers_iou_30", gains("iou_30", "nas", lrp=UP, rise=UP), False, "Against it: net"),
        ("lowers_iou_30", gains("iou_30", "nas", lrp=UP, rise=DOWN), None, "Open: net"),
        ("slic_inconsistent", gains("iou_70", "slic", lrp=UP, rise=DOWN), True, "RISE +6.0"),
        ("slic_inconsistent", gains("iou_70", "slic", lrp=UP, rise=UP), False, "Against it"),
        ("slic_inconsistent", gains("iou_70", "slic", lrp=UP, rise=OPEN), None, "Open: RISE"),
    ],
)
def test_a_claim_about_boxes_holds_fails_or_cannot_be_told(
    claim: str, scores: list[Score], holds: bool | None, words: str
) -> None:
    found, why = LocalisationTable.claims[claim]({"net": scores})
    assert found is holds, why
    assert words in why


Areas = dict[tuple[str, str], float]
AREAS: Areas = {
    ("lrp", "none"): 0.3, ("lrp", "slic"): 0.6, ("lrp", "nas"): 0.62,
    ("rise", "none"): 0.6, ("rise", "slic"): 0.55, ("rise", "nas"): 0.55,
    ("greedy", "slic"): 0.9, ("greedy", "nas"): 0.9,
}  # fmt: skip


def made_up(folder: Path, n: int, means: Areas) -> Run:
    """Areas over pictures, with noise."""
    draw = np.random.default_rng(0)
    table = [
        {"index": i, "id": f"{i}", "method": method, "segmenter": segmenter,
         "auc": mean + 0.05 * float(draw.standard_normal())}
        for i in range(n)
        for (method, segmenter), mean in means.items()
    ]  # fmt: skip
    with open_run(folder, kind="lerf", settings={}) as opened:
        columns = {"index": "int", "id": "text", "method": "text", "segmenter": "text"}
        opened.add(Part(Span(0, n), table, {**columns, "auc": "float"}))
    return read_run(folder)


@pytest.mark.parametrize(
    ("claim", "n", "changed", "expected", "words"),
    [
        (pooling_raises, 40, {}, True, "LRP + SLIC +29.9, LRP + NAS +30, RISE + SLIC (not raised)"),
        (pooling_raises, 40, {("lrp", "nas"): 0.2}, False, "Against it: LRP + NAS"),
        (pooling_raises, 40, {("rise", "nas"): 0.8}, False, "Against it: RISE + NAS"),
        (pooling_raises, 40, {("lrp", "slic"): 0.3}, None, "Open: LRP + SLIC; about"),
        (pooling_raises, 10, {}, None, "too few"),
        (stays_below_maximum, 40, {}, True, "LRP + SLIC +18.5, LRP + NAS +20"),
        (stays_below_maximum, 40, {("lrp", "nas"): 0.89}, False, "Against it: LRP + NAS"),
        (stays_below_maximum, 40, {("lrp", "nas"): 0.805}, None, "would tell"),
        (slic_and_nas_alike, 40, {}, True, "LRP above -10 +10.1, LRP below 10 +9.9"),
        (slic_and_nas_alike, 40, {("lrp", "nas"): 0.9}, False, "Against it: LRP"),
        (slic_and_nas_alike, 40, {("lrp", "nas"): 0.7}, None, "Open: LRP"),
    ],
)
def test_a_claim_about_areas_holds_does_not_or_cannot_be_told(
    tmp_path: Path,
    claim: Callable[[Run], tuple[bool | None, str]],
    n: int,
    changed: Areas,
    expected: bool | None,
    words: str,
) -> None:
    holds, why = claim(made_up(tmp_path, n, {**AREAS, **changed}))
    assert holds is expected, why
    assert words in why


def test_views_are_squares_that_differ_of_classes_that_the_network_knows(tmp_path: Path) -> None:
    dataset = views(tmp_path).open()
    assert len(dataset) == 24
    assert set(dataset.categories) <= set(naspix.load_model(DEFAULT).categories or ())
    images = [dataset[i].image for i in range(len(dataset))]
    assert all(image.shape[-2] == image.shape[-1] for image in images)
    assert len({image.numpy().tobytes() for image in images}) == 24


def test_pictures_without_boxes_or_known_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no XML file"):
        running.reproduce(
            "table3", replace(QUICK, at_hand=AtHand(boxes=tmp_path)), tmp_path / "out"
        )
    views(tmp_path / "pictures")
    for place, folder in enumerate(sorted((tmp_path / "pictures").iterdir())):
        folder.rename(folder.with_name(f"a class of its own {place}"))
    unknown = replace(QUICK, at_hand=AtHand(images=tmp_path / "pictures"))
    with pytest.raises(InputError, match=r"none of the classes .* is one of efficientnet_lite0's"):
        running.reproduce("figure4", unknown, tmp_path / "out")
    with pytest.raises(InputError, match=r"none of the classes .* is one of efficientnet_lite0's"):
        running.reproduce("table1", unknown, tmp_path / "out")


PATTERN = {  # where the paper has the followed cluster as the most salient one
    "right": ("lrp", "rise", "xrai"),
    "wrong": ("lrp", "xrai"),
}


def meaning(folder: Path, n: int, salient: Callable[[str, str, int], bool]) -> Run:
    """Saliency of two clusters, of which the second is followed, over right and wrong pictures."""
    draw = np.random.default_rng(0)
    table = []
    for i in range(2 * n):
        split = "right" if i % 2 else "wrong"
        for method in METHODS:
            high = 0.6 if salient(method, split, i) else 0.2
            sums = np.array([0.4, high]) + 0.01 * draw.standard_normal(2)
            table.append(
                {"index": i, "id": f"{i}", "label": 1, "predicted": int(split == "right"),
                 "method": method, "segmenter": "none", "sums": sums, "weights": np.ones(2),
                 "area": np.ones(2), "blank": False}
            )  # fmt: skip
    columns = {
        **dict.fromkeys(("index", "label", "predicted"), "int"),
        **dict.fromkeys(("id", "method", "segmenter"), "text"),
        **dict.fromkeys(("sums", "weights", "area"), "float64s"),
        "blank": "bool",
    }
    with open_run(folder, kind="semantics", settings={}) as opened:
        opened.add(Part(Span(0, 2 * n), table, columns))
    return read_run(folder)


@pytest.mark.parametrize(
    ("n", "salient", "holds"),
    [
        (24, lambda method, split, i: method in PATTERN[split], True),
        (24, lambda method, split, i: True, False),
        (24, lambda method, split, i: (method in PATTERN[split]) ^ (method == "lrp" and i % 4 < 2),
         None),
        (19, lambda method, split, i: method in PATTERN[split], None),
    ],
)  # fmt: skip
def test_the_followed_cluster_is_as_salient_as_in_the_paper_or_not(
    tmp_path: Path, n: int, salient: Callable[[str, str, int], bool], holds: bool | None
) -> None:
    found, why = as_salient_as_in_the_paper(meaning(tmp_path, n, salient), 1)
    assert found is holds, why
