# /// script
# requires-python = ">=3.11"
# dependencies = []
# ///
"""Run the build phase of one issue: `adw_build.py ISSUE [ADW_ID]`."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from adw_modules.entry import script

if __name__ == "__main__":
    script("build")
