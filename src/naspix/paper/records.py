"""What a benchmark leaves: a record for each line, with its goal, and the machine it ran on.

Plain values, so that a run can be kept as JSON and drawn or tabulated anywhere else.
"""

from dataclasses import asdict, dataclass

from naspix.paper.timing import Timing


@dataclass(frozen=True)
class Case:
    """What something was measured on.

    Attributes:
        network: Its name; weights are random but for the default network's.
        levels: Paper levels.
        n_clusters: K.
        size: Side of the square frame in pixels.
        threads: Threads each library was allowed.
        n_photos: How many photos.
    """

    network: str = ""
    levels: tuple[int, ...] = ()
    n_clusters: int | None = None
    size: int | None = None
    threads: int | None = None
    n_photos: int | None = None


@dataclass(frozen=True)
class Goal:
    """What a figure should be.

    Attributes:
        limit: In the figure's own unit.
        at_least: Whether more is better.
    """

    limit: float
    at_least: bool = False

    def met_by(self, figure: float) -> bool:
        """Whether the figure is good enough."""
        return figure >= self.limit if self.at_least else figure <= self.limit


@dataclass(frozen=True, kw_only=True)
class Record:
    """One line of a benchmark.

    Attributes:
        section: The part of the benchmark it belongs to.
        name: What was measured.
        case: On what.
        timing: What it took, if time was measured.
        against: What it was compared with.
        against_timing: What that took.
        figure: What the goal is about; None where it could not be measured.
        unit: Of the figure; ``"x"`` is a ratio.
        goal: None where the figure is only reported.
        note: What else there is to know.
    """

    section: str
    name: str
    case: Case = Case()
    timing: Timing | None = None
    against: str = ""
    against_timing: Timing | None = None
    figure: float | None = None
    unit: str = "x"
    goal: Goal | None = None
    note: str = ""

    @classmethod
    def of_ratio(
        cls,
        section: str,
        name: str,
        case: Case,
        timing: Timing,
        against: str,
        against_timing: Timing,
        goal: Goal | None = None,
        note: str = "",
    ) -> "Record":
        """A record whose figure is the ratio of two medians."""
        return cls(
            section=section,
            name=name,
            case=case,
            timing=timing,
            against=against,
            against_timing=against_timing,
            figure=timing.median_ms / against_timing.median_ms,
            goal=goal,
            note=note,
        )

    @property
    def ratio(self) -> float | None:
        """The median time as a multiple of what it was compared with."""
        if self.timing is None or self.against_timing is None:
            return None
        return self.timing.median_ms / self.against_timing.median_ms

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None where there is no goal or no figure."""
        if self.goal is None or self.figure is None:
            return None
        return self.goal.met_by(self.figure)

    def to_dict(self) -> dict[str, object]:
        """The record as plain values without nesting, for JSON and tables."""
        timing, rival, goal = self.timing, self.against_timing, self.goal
        return {
            "section": self.section,
            "name": self.name,
            **asdict(self.case),
            "median_ms": timing and timing.median_ms,
            "quartiles_ms": timing and timing.quartiles_ms,
            "n_calls": timing and timing.n_calls,
            "against": self.against,
            "against_median_ms": rival and rival.median_ms,
            "against_quartiles_ms": rival and rival.quartiles_ms,
            "ratio": self.ratio,
            "figure": self.figure,
            "unit": self.unit,
            "goal": goal and goal.limit,
            "goal_is_at_least": goal and goal.at_least,
            "met": self.met,
            "note": self.note,
        }
