"""``naspix render``: a folder's page, tables and pictures drawn again, without computing."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from naspix.cli import talk


def render(
    run: Annotated[
        Path,
        Parameter(
            help="A folder that naspix explain, evaluate or reproduce wrote, finished or not; of "
            "several networks or the whole paper, all of them."
        ),
    ],
    /,
) -> int:
    """Draw page, pictures and tables of a run again, without computing.

    Of a run that was stopped, what is there is drawn.
    """
    from naspix.evaluation import render_evaluation
    from naspix.evaluation.measures import MEASURES
    from naspix.folders import render_photos
    from naspix.paper.running import render as render_paper
    from naspix.runs import STORE, is_run, read_run

    places = [run] if is_run(run) else [path.parent for path in sorted(run.glob(f"*/{STORE}"))]
    kinds = {read_run(place).kind for place in places}
    if kinds and kinds <= set(MEASURES):
        page = render_evaluation(run)
    else:
        of_photos = kinds and kinds <= {"explain", "segment"}
        page = render_photos(run) if of_photos else render_paper(run)
    talk.say(f"see {page}")
    return 0
