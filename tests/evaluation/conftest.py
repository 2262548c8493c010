"""Lets tests of this folder, and processes they start, import the modules that lie beside them."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "runs"), str(HERE.parent / "datasets")]
