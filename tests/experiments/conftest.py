"""Lets tests of this folder, and processes they start, import `squares` that lies beside them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
