"""The front door: what comes back, however it is asked."""

import json

import numpy as np
import pytest
import torch
from torch import nn

import naspix
from naspix.errors import InputError, OutputError, UnknownNameError


@pytest.fixture(scope="module")
def model() -> naspix.Classifier:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, 2, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    )
    return naspix.wrap_model(
        network,
        input_size=(20, 24),
        categories=["cat", "dog", "<b>&", "tree"],
        levels=["1", "3", "2"],
        name="tiny",
    )


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(2, 3, 20, 24, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def nas(model) -> naspix.NAS:
    return naspix.NAS(model, levels=(0, 1), n_clusters=3)


@pytest.fixture(scope="module")
def explanation(model, images, nas) -> naspix.Explanation:
    return naspix.explain(
        model,
        images,
        method=["grad_cam", lambda images, target: images.mean(1) - 0.5],
        segmenter=[nas, naspix.Grid(n_segments=6)],
        names=["a photo", "another"],
    )


def test_holds_every_pair(explanation, model, images):
    assert list(explanation.raw) == ["grad_cam", "lambda"]
    assert list(explanation.segmentations) == ["nas", "grid"]
    assert len(explanation.pooled) == 4
    for (method, segmenter), pooled in explanation.pooled.items():
        superpixels = explanation.segmentations[segmenter].superpixels
        expected = naspix.superpixelify(explanation.raw[method], superpixels)
        torch.testing.assert_close(pooled, expected)
    assert torch.equal(explanation.target, model(images).argmax(1))


def test_predictions(explanation, model, images):
    probabilities = model.probabilities(images).detach()
    for row, predictions in zip(probabilities, explanation.predictions, strict=True):
        assert [one.index for one in predictions] == row.argsort(descending=True).tolist()
        assert predictions[0].name == model.category(int(row.argmax()))
        assert predictions[0].probability == pytest.approx(float(row.max()), abs=1e-5)


def test_ranking_is_the_pooled_maps(explanation):
    ranking = explanation.ranking(1, method="lambda", segmenter="grid")
    assert [one.rank for one in ranking] == list(range(1, len(ranking) + 1))
    assert sum(one.area for one in ranking) == 20 * 24
    pooled = explanation.pooled["lambda", "grid"][1]
    assert ranking[0].saliency == pytest.approx(float(pooled.max()), abs=1e-6)
    with pytest.raises(UnknownNameError, match="did you mean 'grid'"):
        explanation.ranking(0, segmenter="gird")


def test_target_is_what_methods_are_asked_about(model, images, nas):
    asked = []

    def method(images, target):
        asked.append(target)
        return images.mean(1)

    naspix.explain(model, images, 3, method=method, segmenter=nas)
    assert asked[0].tolist() == [3, 3]
    with pytest.raises(InputError, match="there is no class 4"):
        naspix.explain(model, images, 4, method=method, segmenter=nas)


def test_images_of_any_kind(model, nas, tmp_path):
    from PIL import Image

    picture = Image.fromarray(np.full((40, 50, 3), 99, np.uint8))
    picture.save(tmp_path / "grey.png")
    given = [str(tmp_path / "grey.png"), picture, np.asarray(picture)]
    explanation = naspix.explain(model, given, segmenter=nas)
    assert explanation.names == ("grey", "image-1", "image-2")
    assert explanation.images.shape == (3, 3, 20, 24)
    assert len(naspix.explain(model, picture, segmenter=nas)) == 1


def test_methods_of_one_kind_are_told_apart(model, images, nas):
    from naspix.saliency import GradCAM

    explanation = naspix.explain(
        model, images, method=[GradCAM(model, layer=0), GradCAM(model, layer=1)], segmenter=nas
    )
    assert list(explanation.raw) == ["grad_cam", "grad_cam_2"]
    assert next(explanation.photos()).title("grad_cam_2") == "Grad-CAM 2"


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"method": "rose"}, UnknownNameError, "no saliency method 'rose'"),
        ({"segmenter": "slick"}, UnknownNameError, "did you mean 'slic'"),
        ({"method": []}, InputError, "at least one"),
        ({"names": ["one"]}, InputError, "2 images but 1 names"),
        ({"method": lambda images, target: images}, InputError, "returned .2, 3, 20, 24. instead"),
    ],
)
def test_bad_input(model, images, nas, change, error, says):
    with pytest.raises(error, match=says):
        naspix.explain(model, images, **{"segmenter": nas, **change})


def test_a_photo_of_0_to_255(model, nas):
    with pytest.raises(InputError, match="0 to 255"):
        naspix.explain(model, torch.full((1, 3, 20, 24), 200.0), segmenter=nas)


def test_save(explanation, tmp_path):
    from PIL import Image

    explanation.save(tmp_path / "new" / "folder")
    folder = tmp_path / "new" / "folder"
    record = json.loads((folder / "results.json").read_text())
    assert record["finished"]
    assert [photo["name"] for photo in record["photos"]] == ["a photo", "another"]
    for photo in record["photos"]:
        # photo, two pictures of NAS, one of the grid, whose clusters are its superpixels, a raw map
        # a method, two pictures a pair
        assert len(photo["files"]) == 1 + 2 + 1 + 2 + 2 * 4
        for path in photo["files"].values():
            with Image.open(folder / path) as picture:
                assert min(picture.size) >= 200
        assert {(one["method"], one["segmenter"]) for one in photo["explanations"]} == set(
            explanation.pooled
        )
    assert not list(folder.rglob("*.part"))
    html = (folder / "report.html").read_text()
    assert html.count("<section id=") == 2


def test_save_where_nothing_can_be_written(explanation, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file; choose another"):
        explanation.save(tmp_path / "file" / "below")


def test_page_needs_nothing_from_elsewhere(explanation):
    import re

    html = explanation.to_html()
    assert "<script" not in html
    assert "http" not in re.sub(r"data:image/[^\"]*", "", html)
    assert "&lt;b&gt;&amp;" in html  # a class's name is text, not markup
    assert "<b>&<" not in html
    assert html.count("<img") == html.count('alt="')
    assert "prefers-color-scheme: dark" in html


def test_shows_itself(explanation):
    assert repr(explanation) == (
        "Explanation(2 images, methods: grad_cam, lambda, segmenters: nas, grid)"
    )
    assert explanation._repr_html_().count("<img") == 2
    assert len(explanation.plot(1).axes) == 3 * 3 + 1  # one scale, one bar
    assert len(explanation.plot(1, scale="own").axes) == 3 * 3 + 2  # one map is signed


def test_many_methods_continue_in_further_rows(model, images, nas):
    def plane(number):
        def method(images, target):
            return images.mean(1) + number

        return method

    explanation = naspix.explain(model, images, method=[plane(i) for i in range(8)], segmenter=nas)
    figure = explanation.plot()
    drawn = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert len(drawn) == 2 * 2 + 8 * 2  # photo and clusters in both blocks
    assert len(figure.axes) == 2 * 2 * 7 + 1
    html = explanation.to_html()
    assert html.count('class="card"') == 2 * 8


def test_greedy_order_is_drawn_and_written(explanation, tmp_path):
    from dataclasses import replace

    counts = explanation.segmentations["grid"].n_superpixels.tolist()
    order = tuple(torch.arange(n).flip(0) for n in counts)
    asked = replace(explanation, hidden_first={"grid": order})
    titles = [ax.get_title() for ax in asked.plot(1).axes]
    assert "order over Grid" in titles
    assert "order over NAS" not in titles
    photo = next(asked.photos())
    superpixels = asked.segmentations["grid"].superpixels[0].numpy()
    assert (photo.orders["grid"] == counts[0] - 1 - superpixels).all()
    assert photo.hidden_first("grid") == list(range(counts[0]))[::-1]
    asked.save(tmp_path)
    record = json.loads((tmp_path / "results.json").read_text())["photos"][0]
    assert record["hidden_first"] == {"grid": list(range(counts[0]))[::-1]}
    assert (tmp_path / record["files"]["order-grid"]).is_file()
    assert "blue hidden first" in (tmp_path / "report.html").read_text()


def test_agreement(explanation):
    table = explanation.agreement()
    assert table.methods == ("Grad-CAM", "lambda")
    assert table.segmenters == ("NAS", "Grid")
    assert len(table) == 2
    photo = next(explanation.photos())
    np.testing.assert_allclose(photo.agreement.variance_kept[0], table.variance_kept[0])
    html = explanation.to_html()
    assert html.count('class="agreement"') == 2 * 3  # a table a segmenter: each photo, and all
    record = photo.to_json()["agreement"]["grid"]
    assert record["methods"] == ["grad_cam", "lambda"]
    assert record["rank_correlation"][0][0] == 1.0


def test_progress_is_told(model, images, nas):
    told = []
    naspix.explain(model, images, method="grad_cam", segmenter=nas, told=told.append)
    assert told == ["nas", "grad_cam"]


def test_greedy_order_is_that_of_the_metric(model, images):
    from naspix.metrics import greedy_lerf

    grid = naspix.Grid(n_segments=4)
    explanation = naspix.explain(
        model, images, method="grad_cam", segmenter=["grid", grid], greedy=True
    )
    assert list(explanation.hidden_first) == ["grid", "grid_2"]
    best = greedy_lerf(model, images, grid(images).superpixels, explanation.target)
    for found, expected in zip(explanation.hidden_first["grid_2"], best.order, strict=True):
        assert torch.equal(found, expected)
    steps = next(explanation.photos()).orders["grid_2"]
    assert sorted(np.unique(steps)) == [0, 1, 2, 3]


def test_what_suffices_and_what_is_needed(model, images, tmp_path):
    from naspix.metrics import deciding_sets

    grid = naspix.Grid(n_segments=4)
    plain = naspix.explain(model, images, segmenter=grid)
    with pytest.raises(InputError, match="sets=True"):
        plain.sufficient()
    explanation = naspix.explain(model, images, segmenter=grid, sets=True)
    heat = explanation.pooled["grad_cam_plus_plus", "grid"]
    expected = deciding_sets(model, images, heat, grid(images).superpixels, explanation.target)
    assert [explanation.sufficient(i) for i in range(2)] == [one.sufficient for one in expected]
    assert [explanation.necessary(i) for i in range(2)] == [one.necessary for one in expected]
    explanation.save(tmp_path)
    record = json.loads((tmp_path / "results.json").read_text())["photos"]
    for photo, one in zip(record, expected, strict=True):
        written = photo["explanations"][0]
        assert written["n_forwards"] == one.n_forwards
        assert written["sufficient"]["superpixels"] == list(one.sufficient.superpixels)
        assert (written["necessary"] is None) == (one.necessary is None)
        assert (tmp_path / photo["files"]["sufficient-grad_cam_plus_plus-grid"]).is_file()
    assert "With everything hidden" in (page := explanation.to_html()) or " alone keep" in page
    with pytest.raises(InputError, match="a number is asked about"):
        naspix.explain(model, images, naspix.targets.Regression(), segmenter=grid, sets=True)


def test_sets_over_tiles_go_by_the_mean_score(model):
    photo = torch.rand(1, 3, 30, 40, generator=torch.Generator().manual_seed(5))
    grid = naspix.Grid(n_segments=6)
    found = naspix.explain(model, photo, segmenter=grid, tiles=True, sets=True)
    inside = torch.isin(
        grid(photo).superpixels, torch.tensor(found.sufficient().superpixels)
    )  # of the mean score over tiles, cut here anew
    hidden = torch.where(inside[:, None], photo, model.mean.view(1, -1, 1, 1))
    height, width = model.input_size
    tiles = [
        hidden[:, :, tile.top : tile.top + height, tile.left : tile.left + width]
        for tile in found.tiles[0]
    ]
    assert int(model(torch.cat(tiles)).mean(0).argmax()) == int(found.target[0])


def test_batches_change_nothing_but_the_memory(model, nas):
    images = torch.rand(7, 3, 20, 24, generator=torch.Generator().manual_seed(2))
    sizes = []

    def see(module: nn.Module, args: tuple[torch.Tensor]) -> None:
        sizes.append(len(args[0]))

    ways = {
        "method": ["grad_cam", "vanilla_gradient"],
        "segmenter": [nas, naspix.NAS(model, levels=(0,), n_clusters=2, algorithm="ward"), "grid"],
        "target": ["cat", None, "dog", 3, None, 2, 1],
    }
    whole = naspix.explain(model, images, **ways, batch_size=7)
    handle = model.network[0].register_forward_pre_hook(see)
    parts = naspix.explain(model, images, **ways, batch_size=3)
    handle.remove()
    assert max(sizes) <= 3
    for name in whole.raw:
        torch.testing.assert_close(parts.raw[name], whole.raw[name])
    for name, expected in whole.segmentations.items():
        assert parts.segmentations[name] == expected
    assert torch.equal(parts.segmentations["nas_2"].cut(3).clusters,
                       whole.segmentations["nas_2"].cut(3).clusters)  # fmt: skip
    assert torch.equal(parts.target, whole.target)
    for one, other in zip(parts.predictions, whole.predictions, strict=True):
        assert [each.name for each in one] == [each.name for each in other]
    greedy = [
        naspix.explain(model, images, segmenter="grid", greedy=True, batch_size=size)
        for size in (7, 2)
    ]
    for one, other in zip(*(each.hidden_first["grid"] for each in greedy), strict=True):
        assert torch.equal(one, other)


def test_functions_of_ones_own_get_all_images_at_once(model, nas):
    """Such as one that hands out maps made elsewhere; in batches where these are asked for."""
    images = torch.rand(30, 3, 20, 24)
    heat = torch.rand(30, 20, 24)
    found = naspix.explain(model, images, method=lambda images, target: heat, segmenter=nas)
    assert torch.equal(found.raw["lambda"], heat)
    with pytest.raises(InputError, match="batch_size is at least 1"):
        naspix.explain(model, images, batch_size=0)


def test_a_bar_is_shown_where_it_is_wanted(model, images, monkeypatch, capsys):
    naspix.explain(model, images, progress=True)
    assert capsys.readouterr().err == ""  # no terminal
    monkeypatch.setenv("FORCE_COLOR", "1")  # to rich as good as a terminal
    naspix.explain(model, images, batch_size=1)
    assert capsys.readouterr().err == ""
    naspix.explain(model, images, batch_size=1, progress=True)
    assert "5/6" in capsys.readouterr().err


def test_photos_are_resized_as_asked(model):
    photo = np.random.default_rng(0).integers(0, 256, (40, 90, 3), dtype=np.uint8)
    for resize in ("squash", "pad", "crop"):
        found = naspix.explain(model, photo, resize=resize)
        assert torch.equal(found.images, model.load_images(photo, resize))
    assert naspix.explain(model, photo, resize=None).images.shape == (1, 3, 40, 90)


def test_python_takes_the_commands_words(model, tmp_path):
    from PIL import Image

    for name in ("a/one.png", "a/b/two.png", "a/note.txt", "three.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".txt":
            path.write_text("no image")
        else:
            Image.fromarray(np.zeros((20, 24, 3), np.uint8)).save(path)
    ways = {"method": "vanilla_gradient", "segmenter": "grid"}
    assert naspix.explain(model, tmp_path / "a", **ways).names == ("two", "one")
    found = naspix.explain(model, [tmp_path / "three.jpg", str(tmp_path / "a")], **ways)
    assert found.names == ("three", "two", "one")
    assert naspix.explain(model, str(tmp_path / "*.jpg"), **ways).names == ("three",)
    with pytest.raises(InputError, match="nothing fits the pattern"):
        naspix.explain(model, str(tmp_path / "*.gif"), **ways)
    assert naspix.explain(model, tmp_path / "three.jpg", resize="none", **ways).images.shape == (
        1, 3, 20, 24
    )  # fmt: skip


def test_all_segmenters_and_methods(model, images):
    from naspix.registry import SALIENCY, SEGMENTERS, with_all

    found = naspix.explain(model, images[:1], method="vanilla_gradient", segmenter="all")
    assert list(found.segmentations) == list(SEGMENTERS)
    of_a_class = [name for name, kind in SALIENCY.items() if kind.asks_class]
    assert with_all("method", ["rise", "all", "relax"]) == [
        "rise", *(name for name in of_a_class if name != "rise"), "relax"
    ]  # fmt: skip
    assert with_all("method", ["rise", "rise"]) == ["rise", "rise"]
