create or replace function api.list_rejected(
  inout dpu text default null,
  inout source text default null,
  inout code text default null,
  from_at timestamptz default null,
  to_at timestamptz default null,
  before_at timestamptz default null,
  before_id bigint default null,
  rerun boolean default false,
  max_rows integer default 100,
  out id bigint,
  out received_at timestamptz,
  out detail text,
  out "time" timestamptz,
  out direction integer,
  out sequence smallint,
  out body text,
  out rerun_at timestamptz,
  out token text
)
returns setof record
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
begin
  return query
  select r.dpu, r.source, r.code, r.rejected_id, r.received_at, r.detail, r.time, r.direction, r.sequence, r.body,
    r.rerun_at,
    case when core.get_reach() is null then r.token end
  from core.list_seen_refusals(
    list_rejected.dpu, list_rejected.source, list_rejected.code, from_at, to_at, before_at, before_id, rerun) r
  order by r.received_at desc, r.rejected_id desc
  limit max_rows;
end
$$;
comment on function api.list_rejected(text, text, text, timestamptz, timestamptz, timestamptz, bigint, boolean,
  integer) is
'Refused events, the latest receipt first: those received in [from_at, to_at), of one DPU, source or code or of all.
They are kept for 30 days.

before_at, before_id: received_at and id of the one behind which to go on. rerun: instead those that were run again and
went in, at rerun_at. time, direction and sequence are null where the event could not be decoded; body: the first 1,000
characters of the text where it could not; else null. token: the id of the token that sent it; null: it came without
one, or a limited token asks. A limited token sees what DPUs sent while they were placed at its doorways. It does not
see what another limited token sent about DPUs outside that token''s space, nor what others sent about a time at which
the DPU were placed elsewhere.';
