"""What an explanation leaves behind: one HTML page, pictures, and a record for machines.

In: one ``PhotoExplanation`` after the other, plain numpy arrays and names. Out: a page that opens
from disk and needs nothing from elsewhere, PNG files, ``results.json``. No network is asked here.
"""

from naspix.report.agreement import Agreement, agreement
from naspix.report.folder import PAGE, RANKING, PhotoResult, ResultsFolder, write_pictures
from naspix.report.gallery import photo_figure
from naspix.report.page import page
from naspix.report.record import PhotoExplanation, Prediction, RunRecord

__all__ = [
    "PAGE",
    "RANKING",
    "Agreement",
    "PhotoExplanation",
    "PhotoResult",
    "Prediction",
    "ResultsFolder",
    "RunRecord",
    "agreement",
    "page",
    "photo_figure",
    "write_pictures",
]
