-- By this name services up to 0.1.2 asked for it; api.list_flipped_dpus has it.
drop function if exists api.list_turned_dpus(text[], text[]);
