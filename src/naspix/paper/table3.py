"""Table 3: weakly supervised localisation by ResNet18."""

from dataclasses import dataclass
from typing import final

from naspix.paper.localisation import LocalisationTable


@final
@dataclass(frozen=True)
class Table3(LocalisationTable):
    """MaxBoxAccV2 by ResNet18."""

    networks: tuple[str, ...] = ("resnet18",)

    title = "Table 3: localisation, ResNet18"
    items = "pictures"
