"""NAS beside other superpixels, and beside Algorithm 1 taken literally: time, inertia, memory.

Run: python benchmarks/superpixels.py [--photos FOLDER] [--threads N] [--quick] [--json]
"""

import sys

from naspix.cli import main

SECTIONS = ("nas", "inertia", "trained", "variants", "film", "memory", "whole", "ward", "cuda")

if __name__ == "__main__":
    raise SystemExit(main(["bench", *sys.argv[1:], "--sections", *SECTIONS]))
