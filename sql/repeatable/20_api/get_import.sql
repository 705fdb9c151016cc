create or replace function api.get_import(digest text)
returns table (
  lines bigint,
  accepted bigint,
  duplicates bigint,
  rejected bigint,
  finished boolean
)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select i.lines, i.accepted, i.duplicates, i.rejected, i.finished
  from core.import i
  where i.digest = get_import.digest
$$;
comment on function api.get_import(text) is
'The progress of the import of a file; no row if it never began.

digest: SHA-256 of the file, hexadecimal. lines: those that are done, header included.';
