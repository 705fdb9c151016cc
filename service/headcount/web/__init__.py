"""The pages. They are plain files; the libraries beside them are fetched (`python -m headcount.web`)."""

from pathlib import Path

FOLDER = Path(__file__).parent
UPLOT = FOLDER / "uplot"
SWAGGER_UI = FOLDER / "swagger-ui"
SCRIPT = "text/javascript"
STYLE = "text/css"

# What the pages are made of: media type and file by the name it is served under.
FILES = {
    "icon.svg": ("image/svg+xml", FOLDER / "icon.svg"),
    "uPlot.min.css": (STYLE, UPLOT / "uPlot.min.css"),
    "uPlot.esm.js": (SCRIPT, UPLOT / "uPlot.esm.js"),
    "swagger-ui.css": (STYLE, SWAGGER_UI / "swagger-ui.css"),
    "swagger-ui-bundle.js": (SCRIPT, SWAGGER_UI / "swagger-ui-bundle.js"),
    **{path.name: (SCRIPT, path) for path in FOLDER.glob("*.js")},
    **{path.name: (STYLE, path) for path in FOLDER.glob("*.css")},
}
