"""Table 4: weakly supervised localisation by VGG16, ResNet18 and ResNet50."""

from dataclasses import dataclass
from typing import final

from naspix.paper.localisation import LocalisationTable


@final
@dataclass(frozen=True)
class Table4(LocalisationTable):
    """MaxBoxAccV2 by three networks."""

    networks: tuple[str, ...] = ("vgg16", "resnet18", "resnet50")

    title = "Table 4: localisation by three networks"
    items = "pictures for all networks"
