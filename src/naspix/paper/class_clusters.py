"""The clusters of one class, found once for figure 4 and table 1.

As in the paper: bird, Ward's ten clusters on pixels of all training pictures of the class, a vote
of nearest neighbours for all others; one cluster is followed through all pictures and methods.
Where there is no training split, half of the class's pictures are fitted and the other half shown
and scored. What was found is kept beside the experiments, so that both use the same.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from naspix.datasets import Dataset
from naspix.errors import InputError, NaspixError
from naspix.evaluation.settings import classes_of
from naspix.files import write_whole, written
from naspix.metrics import clever_hans_audit, cluster_saliency
from naspix.metrics.per_cluster import ClusterSaliency
from naspix.models import Classifier
from naspix.paper.data import Conditions, Source, load_network
from naspix.paper.experiment import Work
from naspix.paper.segmentations import agreement, eight_bit
from naspix.saliency import GradCAMPlusPlus
from naspix.segmentation import ClassClustering, ClassClusters

CLASS = "bird"  # the paper's
N_CLUSTERS = 10
N_SAMPLES, N_SAMPLES_QUICK = 4000, 1000
_N_QUICK = 24  # training pictures
_N_AUDITED = 24  # pictures that choose the cluster, and on which two samples are compared
_AT_ONCE = 16
_FOLDER = "class-clusters"  # beside the experiments


@dataclass(frozen=True)
class Fitted:
    """The clusters of a class, and what has to be said of them.

    Attributes:
        file: Where they lie.
        category: The class, as the data set calls it.
        label: The network's number of it.
        cluster: The one that is followed, from 0.
        skip: How many pictures of the class, in the data set's order, were fitted on and are not
            to be scored.
        sentences: How they were found.
    """

    file: str
    category: str
    label: int
    cluster: int
    skip: int
    sentences: Sequence[str]


def fit_class(work: Work, source: Source, network: str, weights: str) -> Fitted:
    """Find the clusters of a class, or take those that another experiment has found.

    Args:
        work: On what; what is found is kept in the folder of all experiments.
        source: Pictures with classes that are to be shown and scored.
        network: Its activations are clustered.
        weights: As `find_networks` found them.

    Raises:
        InputError: The network knows none of the classes, or there is no such cluster.
    """
    conditions = work.conditions
    asked = json.dumps([conditions.to_plain(), asdict(source), network, weights], sort_keys=True)
    path = (
        work.output.absolute()
        / _FOLDER
        / f"{network}-{hashlib.sha256(asked.encode()).hexdigest()[:8]}"
    )
    facts = path.with_suffix(".json")
    if facts.exists() and path.with_suffix(".npz").exists():
        return Fitted(**json.loads(facts.read_text("utf-8")))
    with written(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    fitted = _fit(path.with_suffix(".npz"), conditions, source, network, weights)
    with written(facts), write_whole(facts) as file:
        file.write(json.dumps(asdict(fitted)).encode())
    return fitted


def pictures_of(dataset: Dataset, places: Sequence[int], n: int | None = None) -> list[np.ndarray]:
    """The first pictures at some places that can be read, eight bits a channel."""
    found: list[np.ndarray] = []
    for place in places:
        if len(found) == n:
            break
        try:
            found.append(eight_bit(dataset[place].image))
        except NaspixError:
            continue
    return found


def _fit(file: Path, conditions: Conditions, source: Source, network: str, weights: str) -> Fitted:
    model = load_network(network, weights, conditions.device)
    training = conditions.at_hand.training() or source
    dataset = training.open()
    label_of = classes_of(dataset, model)
    known = [label for label in dataset.labels if label in label_of]
    if not known:
        some = ", ".join(dataset.categories[:3])
        raise InputError(
            f"none of the classes ({some}) is one of {model.name}'s; give a network that has "
            "learnt them by --model-weights, or --images with a folder for each class, named "
            "as the network calls it"
        )
    names = [name.casefold() for name in dataset.categories]
    label = names.index(CLASS) if CLASS in names else -1
    if label not in known:
        label = max(sorted(set(known)), key=known.count)
    places = [place for place, each in enumerate(dataset.labels) if each == label]
    skip = 0 if training != source else len(places) // 2
    photos = pictures_of(dataset, places[: skip or None], _N_QUICK if conditions.quick else None)
    if not photos:
        raise InputError(f"none of the pictures of {dataset.categories[label]} can be read")
    asked = ClassClustering(
        model,
        n_clusters=N_CLUSTERS,
        n_samples=N_SAMPLES_QUICK if conditions.quick else N_SAMPLES,
        seed=conditions.seed,
    )
    clusters, again = (
        replace(asked, seed=asked.seed + more).fit(_batches(model, photos)) for more in range(2)
    )
    clusters.save(file)
    cluster, chosen_by = _chosen(clusters, model, photos, conditions)
    n_samples = int(clusters.labels.shape[0])
    fitted_on = f"{len(photos)} {'training ' if training != source else ''}pictures"
    sentences = (
        f"The {clusters.n_clusters} clusters of {dataset.categories[label]} were found by Ward's "
        f"method on {n_samples} pixels of {fitted_on} ({training.sentence}); "
        f"{clusters.clustering.n_neighbors} nearest neighbours vote on all others. The paper "
        "says neither number. Clusters of a second sample agree with them by an adjusted Rand "
        "index of "
        f"{_agreement(clusters, again, model, photos):.2f}.",
        f"Clusters are counted from 1; cluster {cluster + 1} is followed, {chosen_by}.",
    )
    return Fitted(str(file), dataset.categories[label], label_of[label], cluster, skip, sentences)


def _batches(model: Classifier, photos: Sequence[np.ndarray]) -> Iterator[Float[Tensor, "B C H W"]]:
    for start in range(0, len(photos), _AT_ONCE):
        yield model.load_images(list(photos[start : start + _AT_ONCE]))


def _chosen(
    clusters: ClassClusters, model: Classifier, photos: Sequence[np.ndarray], conditions: Conditions
) -> tuple[int, str]:
    """The cluster that is followed, and why that one."""
    if conditions.cluster is not None:
        if not 1 <= conditions.cluster <= clusters.n_clusters:
            raise InputError(
                f"--cluster is {conditions.cluster}; there are {clusters.n_clusters}, from 1"
            )
        return conditions.cluster - 1, "as asked"
    measured = []
    for images in _batches(model, photos[:_N_AUDITED]):
        found = clusters(images)
        heat = {"grad_cam_plus_plus": GradCAMPlusPlus(model)(images)}
        measured.append(
            cluster_saliency(
                heat, found.clusters, found.superpixels, n_clusters=clusters.n_clusters
            )
        )
    first = clever_hans_audit(ClusterSaliency.join(measured))[0]
    words = (
        "the first by the audit of Grad-CAM++ on these pictures (salient, although not in all of "
        "them); --cluster N chooses another"
    )
    return first.cluster, words


def _agreement(
    one: ClassClusters, other: ClassClusters, model: Classifier, photos: Sequence[np.ndarray]
) -> float:
    """Mean adjusted Rand index of two samples' clusters over some pictures together."""
    labels: Mapping[int, list[Tensor]] = {0: [], 1: []}
    for images in _batches(model, photos[:_N_AUDITED]):
        for place, each in enumerate((one, other)):
            labels[place].append(each(images).clusters.flatten().cpu())
    return agreement(*(torch.cat(each).numpy() for each in labels.values()))
