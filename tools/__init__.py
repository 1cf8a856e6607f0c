"""Makes `python -m tools.sample` work as `python tools/sample.py` does: the tools import each other by plain names."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
