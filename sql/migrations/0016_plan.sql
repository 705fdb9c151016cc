-- What each change of the floor plan took the place of, so that it can be taken back; and what is no longer in use.

create table core.placement_change (
  change_id bigint generated always as identity constraint placement_change_pkey primary key,
  dpu_id integer not null constraint placement_change_dpu_id_fkey references core.dpu,
  during tstzrange not null constraint placement_change_during_check check (not isempty(during)),
  recorded_at timestamptz not null,
  undone_at timestamptz
);
create index placement_change_dpu_id_idx on core.placement_change (dpu_id, lower(during)) where undone_at is null;
comment on table core.placement_change is 'What was told of a DPU and a period: it hangs somewhere, or nowhere. Rows of core.placement follow from it.';
comment on column core.placement_change.undone_at is 'When it was taken back; null: it was not.';

alter table core.placement
  add column change_id bigint constraint placement_change_id_fkey references core.placement_change,
  add column superseded_by bigint constraint placement_superseded_by_fkey references core.placement_change;
create index placement_change_id_idx on core.placement (change_id);
create index placement_superseded_by_idx on core.placement (superseded_by) where superseded_by is not null;
comment on column core.placement.change_id is 'The change that says so. What a later change leaves over of it keeps it.';
comment on column core.placement.superseded_by is 'The change that took its place; null while it holds, and where a change was taken back.';

alter table core.reset add column replaces_id integer constraint reset_replaces_id_fkey references core.reset;
comment on column core.reset.replaces_id is 'The reset of the same instant that it took the place of; null: there was none.';

-- What was recorded before.
do $$
#variable_conflict use_column
declare
  v_row core.placement;
  v_change_id bigint;
begin
  for v_row in select p.* from core.placement p order by p.placement_id loop
    -- what a move left over of an older placement is still that one
    select p.change_id into v_change_id
    from core.placement p
    where p.doorway_id = v_row.doorway_id and p.mounted_side = v_row.mounted_side and p.dpu_id = v_row.dpu_id
      and p.superseded_at = v_row.recorded_at and p.placement_id < v_row.placement_id and p.during @> v_row.during
    limit 1;
    if not found then
      insert into core.placement_change (dpu_id, during, recorded_at) values (v_row.dpu_id, v_row.during, v_row.recorded_at)
      returning change_id into v_change_id;
    end if;
    update core.placement p set change_id = v_change_id where p.placement_id = v_row.placement_id;
  end loop;
end
$$;
-- taken down: nothing took the place of what it cut off
insert into core.placement_change (dpu_id, during, recorded_at)
select g.dpu_id, r.during, g.superseded_at
from (
  select p.dpu_id, p.superseded_at, range_agg(p.during) as during
  from core.placement p
  where p.superseded_at is not null and not exists (
    select from core.placement_change c where c.dpu_id = p.dpu_id and c.recorded_at = p.superseded_at)
  group by p.dpu_id, p.superseded_at
) g
cross join lateral (
  select range_merge(g.during - coalesce((
    select range_agg(n.during) from core.placement n where n.dpu_id = g.dpu_id and n.recorded_at = g.superseded_at), '{}')) as during
) r
where not isempty(r.during);
update core.placement p set superseded_by = (
  select c.change_id
  from core.placement_change c
  where c.dpu_id = p.dpu_id and c.recorded_at = p.superseded_at and c.during && p.during
  order by c.change_id
  limit 1)
where p.superseded_at is not null;
update core.reset r set replaces_id = (
  select o.reset_id
  from core.reset o
  where o.space_id = r.space_id and o.at = r.at and o.superseded_at = r.recorded_at and o.reset_id < r.reset_id
  order by o.reset_id desc
  limit 1);

-- No longer in use. Its facts stay and count.
alter table core.space add column retired_at timestamptz;
comment on column core.space.retired_at is 'From when on it is no longer in use; null: it is.';
alter table core.doorway add column retired_at timestamptz;
comment on column core.doorway.retired_at is 'From when on it is no longer in use; null: it is.';
alter table core.dpu_state add column retired_at timestamptz;
comment on column core.dpu_state.retired_at is 'From when on it is no longer in use; null: it is. Derived from core.retirement.';

create table core.retirement (
  dpu_id integer not null constraint retirement_dpu_id_fkey references core.dpu,
  from_at timestamptz not null,
  until_at timestamptz,
  constraint retirement_pkey primary key (dpu_id, from_at)
);
create unique index retirement_dpu_id_idx on core.retirement (dpu_id) where until_at is null;
comment on table core.retirement is 'When DPUs were no longer in use: what a count says of its DPUs leaves them out then. Recorded at the bounds themselves.';
comment on column core.retirement.until_at is 'When it was brought back; null: it was not.';
