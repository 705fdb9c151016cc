"""The wire shapes, by topic. `...In` comes from outside and refuses unknown fields, `...Query` is a query string,
`...Out` goes out, `...Row` is a row of the database.

Every field of theirs says with `about` what it means: GET /schema is made of that.
Instants are RFC 3339 with an offset on the way in, UTC with `Z` on the way out.
"""
