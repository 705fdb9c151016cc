-- Which DPUs heartbeats come from.

create or replace function core.list_seen_ids(
  dpus text[],
  mac_addresses text[]
)
returns integer[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select coalesce(array_agg(coalesce(d.dpu_id, m.dpu_id, l.dpu_id) order by n.ordinal), '{}')
    from unnest(dpus, mac_addresses) with ordinality as n (id, mac_address, ordinal)
    left join core.dpu d on d.id = n.id
    left join core.dpu m on n.id is null and m.mac_address = n.mac_address::macaddr
    -- registered by its address, and without one of its own
    left join core.dpu l on n.id is null and m.dpu_id is null and l.id = n.mac_address::macaddr::text
      and l.mac_address is null);
end
$$;
comment on function core.list_seen_ids(text[], text[]) is
'The dpu_id of each DPU, named by its id or else by its MAC address, in the order given; null for one that is not
registered.';

create or replace function core.register_seen(
  dpus text[],
  mac_addresses text[],
  senders text[],
  sender_sizes integer[]
)
returns text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_ids integer[] := core.list_seen_ids(dpus, mac_addresses);
  v_named text[] := array(
    select coalesce(n.id, n.mac_address::macaddr::text)
    from unnest(dpus, mac_addresses) with ordinality as n (id, mac_address, ordinal)
    order by n.ordinal);
  v_unknown text[] := array(select n.id from unnest(v_named, v_ids) as n (id, dpu_id) where n.dpu_id is null);
  v_unregistered text := core.admit_dpus(v_named, v_ids, senders, sender_sizes);
begin
  update core.dpu d set mac_address = n.mac_address
  from (select distinct a.mac_address::macaddr as mac_address from unnest(dpus, mac_addresses) as a (id, mac_address)
    where a.id is null) n
  where d.id = n.mac_address::text and d.id = any (v_unknown) and d.mac_address is null;
  return v_unregistered;
end
$$;
comment on function core.register_seen(text[], text[], text[], integer[]) is
'Registers unknown DPUs as core.admit_dpus does, and returns the same. One that is named by a MAC address gets that as
its id.';

create or replace function core.explain_heartbeat(verdict text)
returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return case verdict
    when 'duplicate' then 'A heartbeat as new as this one is known already.'
    when 'unknown_dpu' then
      case when core.get_reach() is not null
        then core.explain_verdict(verdict)
        else 'This DPU is not registered, and registration by heartbeats is switched off. '
          'Register it with PUT /v1/dpus/{id}.'
      end
    else core.explain_verdict(verdict)
  end;
end
$$;
comment on function core.explain_heartbeat(text) is
'The meaning of a verdict on a heartbeat, and what to do about it.';
