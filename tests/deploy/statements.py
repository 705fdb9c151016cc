"""Run by its path, with PYTHONPATH leading to an older release: its calls, as JSON on standard output.

[[name, statement, whether rows become Structs by the order of their columns], ...]
"""

import json
from typing import get_args, get_type_hints

from headcount.database import calls, rows


def main() -> None:
    found = []
    for name, call in vars(calls).items():
        if hasattr(call, "statement"):
            hint = get_type_hints(call)["return"]
            made_by = [rows.maker(kind).__qualname__ for kind in get_args(hint) or (hint,)]
            found.append((name, call.statement, any(maker.startswith("in_order") for maker in made_by)))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
