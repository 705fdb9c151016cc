-- Derives what numbered files made room for and only functions can fill. Where all of it is there, it only looks.

do $$
begin
  -- 0015
  if exists (select from core.placement p where not exists (select from core.first_event f where f.placement_id = p.placement_id))
    or exists (
      select from core.live_space l
      where l.counted_since is null and exists (select from core.reset r where r.space_id = l.space_id and r.superseded_at is null))
  then
    perform core.lock_plan();
    -- nobody stores events from here on
    perform core.derive_first_events();
    update core.live_space l set counted_since = c.counted_since
    from core.derive_counted_since(array(select s.space_id from core.space s)) c
    where c.space_id = l.space_id and l.counted_since is distinct from c.counted_since;
  end if;
end
$$;
