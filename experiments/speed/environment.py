"""Imported before torch: the project on the path, and threads as train.py has them."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
# Threads that wait do not spin for long, whichever side they work for. Read when torch is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
