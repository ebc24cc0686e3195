# /// script
# requires-python = ">=3.11"
# dependencies = []
# ///
"""Run all phases of one issue: `adw_sdlc.py ISSUE [ADW_ID] [--phases plan,build,review]`."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from adw_modules.entry import script

if __name__ == "__main__":
    script("sdlc")
