"""Lets tests of this folder, and processes they start, import `squares` that lies beside them.

And `published` of the data sets.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "datasets")]
