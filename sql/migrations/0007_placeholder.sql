-- Stands in for a migration of another branch; dropped on merging.
select 1;
