-- How every function refuses what it is asked for. service/headcount/wire/problems.py makes an HTTP answer of it.

create or replace function core.refuse(
  status integer,
  message text,
  place text,
  hint text,
  kind text default null
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception using
    errcode = 'PT' || status, message = message, detail = coalesce(place, ''), hint = coalesce(hint, ''),
    constraint = coalesce(kind, '');
end
$$;
comment on function core.refuse(integer, text, text, text, text) is
'Refuses what a function was asked for, with SQLSTATE PT and the status of HTTP, such as PT404. Never returns.

message: what is wrong, for people. place: the field or parameter that is wrong (null: none). hint: what to do instead.
kind: the code of the API where it is narrower than the status tells, such as clock_suspect.';

create or replace function core.refuse_lengths(
  arrays text,
  item text
)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  perform core.refuse(
    422, 'The arrays differ in length.', arrays, format('Give each of them one element for each %s.', item));
end
$$;
comment on function core.refuse_lengths(text, text) is
'Refuses parallel arrays that differ in length, with PT422. arrays: their names; item: what each element is about.';
