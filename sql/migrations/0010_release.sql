-- Nothing is to be done. The number tells services of the release before, which ends with 0009, that the functions here
-- are of a later one (sql/README.md).
select;
