"""Puts the root of the project on the path, so that `python tools/NAME.py` works without an install."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
