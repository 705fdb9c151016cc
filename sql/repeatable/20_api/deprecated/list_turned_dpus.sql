create or replace function api.list_turned_dpus(
  dpus text[],
  tokens text[] default '{}'
)
returns table (
  dpu text,
  state text,
  last_seen timestamptz,
  at timestamptz,
  mounted_in text,
  other_side text,
  spaces text[],
  seen_by text[],
  seen_at text[]
)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  select f.dpu, f.state, f.last_seen, f.at, f.mounted_in, f.other_side, f.spaces, f.seen_by, f.seen_at
  from api.list_flipped_dpus(dpus, tokens) f;
end
$$;
comment on function api.list_turned_dpus(text[], text[]) is
'api.list_flipped_dpus by its name up to 0.1.2, whose services call it. The release after the next drops it.';
