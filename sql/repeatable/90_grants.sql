-- Who may do what, whole. headcount_service executes api; headcount_bi reads bi; nobody else anything.

revoke all on schema core, api, bi from public;
revoke all on all tables in schema core, api, bi from public;
revoke all on all functions in schema core, api, bi from public;
revoke all on all tables in schema core from headcount_service, headcount_bi;
revoke all on all functions in schema core from headcount_service, headcount_bi;

grant usage on schema api to headcount_service;
grant execute on all functions in schema api to headcount_service;

grant usage on schema bi to headcount_bi;
grant select on all tables in schema bi to headcount_bi;
