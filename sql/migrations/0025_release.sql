-- Nothing is to be done: the number tells services of the release before that the functions are of a later one (sql/README.md).
select;
