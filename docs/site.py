"""A hook of MkDocs: pages of the repository that stand outside of docs/ are part of the site too."""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
# The file in the repository, and the page that it becomes.
PAGES = {
    "CHANGELOG.md": "project/changelog.md",
    "CODE_OF_CONDUCT.md": "project/conduct.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
    "benchmarks/README.md": "project/benchmarks.md",
    "sql/README.md": "project/sql.md",
}
SOURCES = {page: source for source, page in PAGES.items()}
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links work in the repository; here they lead to the pages of the site.

    A file that is no page of the site is named and not linked.
    """
    here = page.file.src_uri
    place = posixpath.dirname(SOURCES.get(here, f"docs/{here}"))

    def lead(match: re.Match[str]) -> str:
        label, link = match.groups()
        path, mark, anchor = link.partition("#")
        if not path or re.match(r"[a-z]+:|/", path):
            return match[0]
        target = posixpath.normpath(posixpath.join(place, path))
        uri = PAGES.get(target) or (target.removeprefix("docs/") if target.startswith("docs/") else None)
        if uri is None:
            return label if (ROOT / target).exists() else match[0]
        return f"[{label}]({posixpath.relpath(uri, posixpath.dirname(here) or '.')}{mark}{anchor})"

    return LINK.sub(lead, markdown)
