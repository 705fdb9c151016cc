"""The page. It is plain files; the charting library beside them is fetched (`python -m headcount.web`)."""

from pathlib import Path

FOLDER = Path(__file__).parent
UPLOT = FOLDER / "uplot"
SCRIPT = "text/javascript"
STYLE = "text/css"

# What the page is made of: media type and file by the name it is served under.
FILES = {
    "icon.svg": ("image/svg+xml", FOLDER / "icon.svg"),
    "uPlot.min.css": (STYLE, UPLOT / "uPlot.min.css"),
    "uPlot.esm.js": (SCRIPT, UPLOT / "uPlot.esm.js"),
    **{path.name: (SCRIPT, path) for path in FOLDER.glob("*.js")},
    **{path.name: (STYLE, path) for path in FOLDER.glob("*.css")},
}
