"""Writes what is generated and committed, from a freshly migrated database and the code: `make generate`."""

from headcount.database.dump import DOCS, SCHEMA, dump_docs, dump_schema, freeze
from tests.docs import reference
from tests.lanes import choose_lane


def main() -> None:
    with choose_lane() as lane, lane.database(migrated=True) as url:
        SCHEMA.write_text(dump_schema(url))
        DOCS.write_text(dump_docs(url))
    freeze()
    reference.write()


if __name__ == "__main__":
    main()
