-- A placeholder: on merging, the sensors' own file takes its place.

select;
