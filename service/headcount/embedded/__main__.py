"""`python -m headcount.embedded DIR [--port N]`: an embedded database until Ctrl-C."""

import argparse
import signal
import sys
from pathlib import Path

from headcount.embedded import EmbeddedDatabase, EmbeddedUnavailable


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m headcount.embedded", description=__doc__)
    parser.add_argument("directory", type=Path, help="where the data lives; made when missing")
    parser.add_argument("--port", type=int, help="also listen on this port of 127.0.0.1, without a password")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C
    try:
        with EmbeddedDatabase(arguments.directory, port=arguments.port) as database:
            print(database.url, flush=True)
            database.wait()
    except EmbeddedUnavailable as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
