"""The command line from start to end, and what importing naspix costs beside importing torch.

Run: python benchmarks/processes.py [--threads N] [--quick] [--json]
"""

import sys

from naspix.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["bench", *sys.argv[1:], "--sections", "process"]))
