"""Small worlds for planning: devices in a line of sites, one model of a few blocks, one mission."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
