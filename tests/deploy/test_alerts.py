"""What docs/how-to/monitor.md says to watch is there to be watched."""

import re
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from headcount.metrics import Metrics, StreamMetrics

MONITOR = (Path(__file__).parents[2] / "docs/how-to/monitor.md").read_text()


async def test_every_metric_that_is_named_is_measured(client: httpx.AsyncClient) -> None:
    of_consumers = Metrics()
    StreamMetrics(of_consumers.registry)
    families = [*text_string_to_metric_families((await client.get("/metrics")).text), *of_consumers.registry.collect()]
    known = {sample.name for family in families for sample in family.samples}
    known |= {f"{family.name}{suffix}" for family in families for suffix in ("", "_total", "_bucket")}
    named = set(re.findall(r"headcount_\w+(?=[\[{}) ><!=`])", MONITOR)) - {"headcount_service", "headcount_bi"}
    assert len(named) > 10
    assert named - known == {"headcount_replica_lag_seconds"}, "there is no replica here"
