"""`python -m headcount.web`: fetches what the page is made of beside our own files."""

import sys

from headcount.web.fetch import fetch

if reason := fetch():
    sys.exit(f"The page will show no curves. Try `python -m headcount.web` again.\n{reason}")
