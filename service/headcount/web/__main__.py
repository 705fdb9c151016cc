"""`python -m headcount.web`: fetches what the pages are made of beside our own files."""

import sys

from headcount.web.fetch import fetch

if reason := fetch():
    sys.exit(f"The page will show no curves, and /docs no API. Try `python -m headcount.web` again.\n{reason}")
