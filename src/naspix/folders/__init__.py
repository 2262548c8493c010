"""Many photos explained or cut, on any engine, gone on with after a stop.

Photos in; for `explain_photos` pictures, ``report.html`` and ``results.json`` out, for
`segment_photos` a file a photo. What is computed lies in ``run.sqlite`` of the output folder as it
comes, so that the same command goes on where it was stopped, and memory does not grow with the
number of photos.
"""

from naspix.folders.running import explain_photos, render_photos, segment_photos
from naspix.folders.settings import Format, PhotoSettings

__all__ = ["Format", "PhotoSettings", "explain_photos", "render_photos", "segment_photos"]
