create or replace function api.get_availability(
  dpu text,
  inout from_at timestamptz default null,
  inout to_at timestamptz default null,
  out online_seconds double precision,
  out offline_seconds double precision,
  out availability double precision,
  out froms timestamptz[],
  out untils timestamptz[]
)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_now timestamptz := clock_timestamp();
  v_dpu_id integer := core.find_dpu(dpu);
  v_known tstzmultirange;     -- when it was known to be in one state or the other
  v_offline tstzmultirange;
begin
  to_at := coalesce(to_at, v_now);
  from_at := coalesce(from_at, to_at - interval '24 hours');
  if from_at >= to_at then
    perform core.refuse(422, 'to is not after from.', 'to', 'Give a later one, or leave it out for now.');
  end if;
  select coalesce(tstzmultirange(tstzrange(greatest(from_at, min(f.at)), least(to_at, v_now))), '{}') into v_known
  from core.first_sign f
  where f.dpu_id = v_dpu_id
  having min(f.at) < least(to_at, v_now) and from_at < v_now;
  v_known := coalesce(v_known, '{}');
  if core.get_reach() is not null then
    v_known := v_known * coalesce((select range_agg(p.during) from core.list_seen_placements(array[v_dpu_id]) p), '{}');
  end if;
  v_offline := v_known * coalesce((
    select range_agg(tstzrange(o.offline_at, o.back_at))
    from core.outage o
    where o.dpu_id = v_dpu_id and o.superseded_at is null and o.offline_at < to_at
      and (o.back_at is null or o.back_at > from_at)), '{}');

  select coalesce(sum(extract(epoch from upper(r) - lower(r))), 0) into offline_seconds from unnest(v_offline) as r;
  select coalesce(sum(extract(epoch from upper(r) - lower(r))), 0) - offline_seconds into online_seconds
  from unnest(v_known) as r;
  availability := online_seconds / nullif(online_seconds + offline_seconds, 0);
  select coalesce(array_agg(lower(r) order by r), '{}'), coalesce(array_agg(upper(r) order by r), '{}')
  into froms, untils
  from unnest(v_offline) as r;
end
$$;
comment on function api.get_availability(text, timestamptz, timestamptz) is
'How much of [from_at, to_at) a DPU was online: by default the 24 hours before to_at, by default now.

Only the time from its first sign of life until now counts; for a limited token, only while the DPU was placed above its
doorways. Time in which nobody listened counts as the state before it; time in which silence means nothing counts as
online. availability: online_seconds / (online_seconds + offline_seconds), null where both are 0. froms, untils: when it
was offline, within the range. Errors: PT404; PT422 for an empty range.';
