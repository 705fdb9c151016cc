create or replace function api.record_import(
  digest text,
  file_name text,
  lines bigint,
  accepted bigint,
  duplicates bigint,
  rejected bigint,
  finished boolean
)
returns void
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
  insert into core.import as i (digest, file_name, lines, accepted, duplicates, rejected, finished, updated_at)
  values (
    record_import.digest, record_import.file_name, record_import.lines, record_import.accepted,
    record_import.duplicates, record_import.rejected, record_import.finished, clock_timestamp()
  )
  on conflict (digest) do update set
    file_name = excluded.file_name,
    lines = excluded.lines,
    accepted = excluded.accepted,
    duplicates = excluded.duplicates,
    rejected = excluded.rejected,
    finished = excluded.finished,
    updated_at = excluded.updated_at
$$;
comment on function api.record_import(text, text, bigint, bigint, bigint, bigint, boolean) is
'Records the progress of the import of a file. Call it in the transaction that stores the events, so that both are
stored or neither.';
