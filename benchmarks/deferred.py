"""What it would save to merge the sums of DPUs later, instead of updating a row for each with its events
(docs/explanation/decisions.md): CPU of the database for a call of 1,000 events, each of another DPU."""

import statistics
from collections import defaultdict
from pathlib import Path

import asyncpg
import click
import psycopg
import uvloop

from benchmarks.database import fresh_database, server_url
from benchmarks.traffic import DPUS, Traffic, make_site

BATCH = 1_000
# As many as wait to be merged at a time.
BATCHES = 64
SETUP = """
create schema deferred;
create table deferred.batch (dpu_ids integer[], nets bigint[], lasts timestamptz[], received_at timestamptz);
alter table deferred.batch alter dpu_ids set storage external, alter nets set storage external,
  alter lasts set storage external;
create function deferred.look(ids integer[], times timestamptz[], directions integer[], now_at timestamptz,
  out dpu_ids integer[], out nets bigint[], out lasts timestamptz[], out is_plain boolean)
language plpgsql stable set enable_hashjoin = off set enable_mergejoin = off set enable_seqscan = off
set enable_bitmapscan = off as $$
begin
  select array_agg(n.dpu_id), array_agg(n.net), array_agg(n.latest), bool_and(
    n.first >= s.live_from and n.first >= s.first_from and n.first >= s.steady_from and s.first_heard_at is not null
    and s.offline_at is null and s.last_seen_at > now_at - interval '1 minute')
  into dpu_ids, nets, lasts, is_plain
  from (
    select e.dpu_id, sum(e.direction) as net, min(e.time) as first, max(e.time) as latest
    from unnest(ids, times, directions) as e (dpu_id, time, direction)
    group by e.dpu_id
    order by e.dpu_id
  ) n
  join core.dpu_state s on s.dpu_id = n.dpu_id;
end $$;
create function deferred.record(dpus text[], times timestamptz[], directions integer[], sequences smallint[],
  looks boolean)
returns void language plpgsql set plan_cache_mode = force_generic_plan as $$
declare
  v_now timestamptz := clock_timestamp();
  v_ids integer[];
begin
  perform core.share_plan();
  v_ids := core.list_dpu_ids(dpus);
  if looks then
    insert into deferred.batch select l.dpu_ids, l.nets, l.lasts, v_now
    from deferred.look(v_ids, times, directions, v_now) l;
  else
    insert into deferred.batch select array_agg(n.dpu_id), array_agg(n.net), array_agg(n.latest), v_now
    from (
      select e.dpu_id, sum(e.direction) as net, max(e.time) as latest
      from unnest(v_ids, times, directions) as e (dpu_id, time, direction)
      group by e.dpu_id
      order by e.dpu_id
    ) n;
  end if;
  insert into core.event (time, lag_ms, dpu_id, direction, sequence)
  select e.time, core.get_lag_ms(e.time, v_now), e.dpu_id, e.direction, e.sequence
  from unnest(v_ids, times, directions, sequences) as e (dpu_id, time, direction, sequence);
end $$;
create function deferred.merge() returns void language sql as $$
  with gone as (
    delete from deferred.batch returning *
  )
  update core.dpu_state s set
    cumulative_count = s.cumulative_count + n.net, earlier_time = s.latest_time,
    latest_time = greatest(s.latest_time, n.latest), earlier_seen_at = s.last_seen_at,
    last_seen_at = greatest(s.last_seen_at, n.received_at)
  from (
    select e.dpu_id, sum(e.net) as net, max(e.latest) as latest, max(g.received_at) as received_at
    from gone g
    cross join lateral unnest(g.dpu_ids, g.nets, g.lasts) as e (dpu_id, net, latest)
    group by e.dpu_id
  ) n
  where s.dpu_id = n.dpu_id
$$;
"""
AS_IT_IS = "as it is"
LANES = {
    AS_IT_IS: "select * from api.record_events(dpus => $1, times => $2, directions => $3, sequences => $4)",
    "a batch, merged later": "select deferred.record($1, $2, $3, $4, true)",
    "the same, blindly": "select deferred.record($1, $2, $3, $4, false)",
}


def cpu_ms(pid: int) -> float:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e6


async def measure(url: str, dpus: int, rounds: int) -> dict[str, list[float]]:
    connection = await asyncpg.connect(url, server_settings={"timezone": "UTC"})
    pid = connection.get_server_pid()
    traffic = Traffic(dpus)
    found: dict[str, list[float]] = defaultdict(list)
    for round_ in range(rounds + 1):  # the first one fills caches
        for lane, statement in LANES.items():
            batches = [traffic.columns(BATCH) for _ in range(BATCHES)]
            before = cpu_ms(pid)
            for batch in batches:
                await connection.fetch(statement, *batch)
            if lane != AS_IT_IS:
                await connection.execute("select deferred.merge()")
            if round_:
                found[lane].append((cpu_ms(pid) - before) / BATCHES)
    await connection.close()
    return found


@click.command(help=__doc__)
@click.option("--rounds", default=7, show_default=True)
@click.option("--dpus", default=DPUS, show_default=True, help="That report, by turns; 50: 20 events of each in a call.")
def main(rounds: int, dpus: int) -> None:
    with fresh_database(server_url()) as url:
        make_site(url)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(SETUP)
        found = uvloop.run(measure(url, dpus, rounds))
    for lane, taken in found.items():
        ratio = statistics.median(own / base for own, base in zip(taken, found[AS_IT_IS], strict=True))
        click.echo(f"{lane:24} {statistics.median(taken):6.2f} ms ({min(taken):.2f} to {max(taken):.2f}), {ratio:.2f}")


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.deferred")
