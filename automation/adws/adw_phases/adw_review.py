# /// script
# requires-python = ">=3.11"
# dependencies = []
# ///
"""Run the review phase of one issue: `adw_review.py ISSUE [ADW_ID]`."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from adw_modules.entry import script

if __name__ == "__main__":
    script("review")
