create or replace function api.record_polls(
  spaces text[],
  times timestamptz[],
  are_active boolean[],
  auto_register boolean default true,
  assumed_zone text default null,
  refused_bodies text[] default '{}',
  refused_details text[] default '{}',
  numbers integer[] default null,
  sender text default null,
  refused_digests bytea[] default '{}'
)
returns table (index integer, verdict text, detail text)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_now timestamptz;
  v_oldest timestamptz := core.get_horizon();
  v_count integer := coalesce(cardinality(times), 0);
  v_sender text := coalesce(sender, nullif(current_setting('headcount.token', true), ''));
  v_spaces integer[];  -- resolved
  v_uncreated text;    -- why unknown spaces are not created
  v_ids integer[];     -- of the space of each poll
  v_refused bigint[];  -- ordinals and verdicts of what was not stored
  v_verdicts text[] := '{}';
  v_details jsonb;     -- what each of the verdicts means
begin
  if coalesce(cardinality(numbers), cardinality(spaces), 0) <> v_count
    or coalesce(cardinality(are_active), 0) <> v_count
    or cardinality(refused_details) <> cardinality(refused_bodies)
    or cardinality(refused_digests) not in (0, cardinality(refused_bodies)) then
    perform core.refuse_lengths('spaces (or numbers), times, are_active', 'poll');
  end if;

  -- the floor plan stays as it is until the end of this transaction
  perform core.share_plan();
  v_spaces := core.resolve_spaces(spaces, auto_register and assumed_zone is not null);
  if auto_register and core.get_reach() is null and array_position(v_spaces, null) is not null then
    v_uncreated := core.admit_spaces(spaces, v_spaces, v_sender);
    v_spaces := core.list_space_ids(spaces);
  end if;
  perform core.add_sites(v_spaces);
  perform core.assume_time_zone(v_spaces, assumed_zone);
  if numbers is null then
    v_ids := v_spaces;
  else
    v_ids := array(
      select v_spaces[n.number] from unnest(numbers) with ordinality as n (number, ordinal) order by n.ordinal);
  end if;

  v_now := clock_timestamp();
  v_refused := core.store_polls(v_ids, times, are_active, v_now);
  if cardinality(v_refused) < v_count then
    insert into core.change (changed_at, is_polled) values (v_now, true);
  end if;
  if cardinality(v_refused) > 0 then
    v_verdicts := array(
      select case
        when v_ids[n.ordinal] is null then 'unknown_space'
        when times[n.ordinal] > core.get_latest_time(v_now) then 'in_future'
        when core.is_clock_unset(times[n.ordinal]) then 'clock_unset'
        when times[n.ordinal] < v_oldest then 'too_old'
        else 'duplicate'
      end
      from unnest(v_refused) with ordinality as n (ordinal, place)
      order by n.place);
    select jsonb_object_agg(n.verdict, core.explain_poll_verdict(n.verdict, v_uncreated)) into v_details
    from (select distinct v as verdict from unnest(v_verdicts) as v) n;
  end if;

  if cardinality(refused_bodies) > 0 or v_verdicts && array['unknown_space', 'in_future', 'clock_unset', 'too_old'] then
    perform core.refuse_polls(v_now,
      array_agg(n.verdict), array_agg(n.detail), array_agg(n.space), array_agg(n.time), array_agg(n.is_active),
      array_agg(n.body),
      v_sender, array_agg(n.digest))
    from (
      select r.verdict, v_details ->> r.verdict,
        spaces[coalesce(numbers[r.ordinal], r.ordinal)], times[r.ordinal], are_active[r.ordinal], null, null
      from unnest(v_refused, v_verdicts) as r (ordinal, verdict)
      where r.verdict <> 'duplicate'
      union all
      select 'invalid', r.detail, null, null, null, r.body, r.digest
      from unnest(refused_bodies, refused_details, refused_digests) as r (body, detail, digest)
    ) as n (verdict, detail, space, time, is_active, body, digest);
  end if;

  return query
  select (r.ordinal - 1)::integer, r.verdict, v_details ->> r.verdict
  from unnest(v_refused, v_verdicts) as r (ordinal, verdict)
  order by r.ordinal;
end
$$;
comment on function api.record_polls(text[], timestamptz[], boolean[], boolean, text, text[], text[],
  integer[], text, bytea[]) is
'Stores polls, given as parallel arrays, and returns a verdict for each that was not accepted.

A poll says that at an instant a space was active or not. index counts from 0. verdict: duplicate (the same space,
instant and status is stored already, or came earlier in the arrays), in_future (more than 5 minutes ahead),
clock_unset, too_old (before the horizon, api.set_horizon), unknown_space (without auto_register, or beyond what
core.space_registration allows: otherwise an unknown space is created). Two polls of one instant that disagree are both
stored. Everything but duplicates is kept in core.rejected_poll, as are refused_bodies: polls that could not even be
decoded, with refused_details saying why. refused_digests: of what their bodies are not all of, so that each is kept by
itself; null where a body is all of it.

A limited token can report on spaces within its space; all others are unknown_space, and nothing is created.

sender: the id of the token that sent them; null: that of the statement, if it has one. So many refused polls and events
of a token and its family are kept in an hour (core.get_max_refused).

numbers: for many polls of few spaces: the place in spaces, from 1, of the space of each poll. Without it spaces has an
element for each poll.

assumed_zone: for imports, which may create any number of spaces; the zone that is given to spaces which stand alone (no
parent, nothing below, no doorway) and have none. Errors: PT422 for arrays of different lengths, or an unknown zone.';
