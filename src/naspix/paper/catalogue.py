"""Names -> the paper's tables and figures, in the paper's order.

A literal dictionary; adding one is its file, its line here, its entry in ``paper.json`` and its
name in ``naspix.registry.EXPERIMENTS``, which lies below this room and so knows titles only.
"""

from collections.abc import Mapping

from naspix.errors import UnknownNameError
from naspix.paper.experiment import Experiment
from naspix.paper.figure1 import Figure1
from naspix.paper.figure3 import Figure3
from naspix.paper.figure4 import Figure4
from naspix.paper.figure5 import Figure5
from naspix.paper.figure6 import Figure6
from naspix.paper.figure7 import Figure7
from naspix.paper.figure8 import Figure8
from naspix.paper.figure9 import Figure9
from naspix.paper.table1 import Table1
from naspix.paper.table2 import Table2
from naspix.paper.table3 import Table3
from naspix.paper.table4 import Table4
from naspix.paper.table5 import Table5

EXPERIMENTS: Mapping[str, type[Experiment]] = {
    "figure1": Figure1,
    "figure3": Figure3,
    "figure4": Figure4,
    "table1": Table1,
    "figure5": Figure5,
    "figure6": Figure6,
    "table2": Table2,
    "table3": Table3,
    "table4": Table4,
    "table5": Table5,
    "figure7": Figure7,
    "figure8": Figure8,
    "figure9": Figure9,
}
ALL = "all"


def find_experiment(name: str) -> Experiment:
    """The experiment with its defaults.

    Raises:
        UnknownNameError: with the names most like it.

    Example:
        >>> find_experiment("figure3").numbers
        (2, 5, 10, 20)
    """
    if name not in EXPERIMENTS:
        raise UnknownNameError.among("experiment", name, [*EXPERIMENTS, ALL])
    return EXPERIMENTS[name]()
