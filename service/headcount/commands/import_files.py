"""`headcount import`: files of events, polls, hours or zones straight into the database, exactly once.

Each batch of lines is one transaction that also notes how far the file has come (api.record_import). So whenever the
import is killed or the connection lost, what is stored and what is noted agree, and the next run goes on behind it.
"""

import asyncio
import codecs
import csv
import gzip
import hashlib
import itertools
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple
from zoneinfo import ZoneInfo

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from headcount.commands.session import (
    connected,
    in_one_line,
    offline_settings,
    open_connection,
    run_async,
    write_horizon,
)
from headcount.database import calls
from headcount.ingest import formats, polls
from headcount.ingest.formats import CsvFormat, CsvHeader, Decoded
from headcount.ingest.spreadsheets import FIELDS, SpreadsheetEvents
from headcount.wire.messages.service import ImportRow
from headcount.wire.problems import Problem, problem_of

BATCH_LINES = formats.MAX_EVENTS
BLOCK_BYTES = 256 * 1024
LONGEST_LINE = 64 * 1024  # what is longer is no event; its beginning is kept
GIVE_UP_SECONDS = 60.0
LONGEST_PAUSE = 5.0
BATCH_SECONDS = 120.0  # longer than that, nobody is at the other end any more
QUOTE = '"'
WANTED = "".join(f"\n  {table.header_in_words}" for table in polls.TABLES)
GZIP_MAGIC = b"\x1f\x8b"
# Two runs that import one file must take turns, or their sums would be mixed up.
LOCK = "select pg_advisory_xact_lock(hashtextextended($1, 0))"
# What a file of rejected lines has before the columns of the file that they are from. Importing it leaves them out.
REASONS = (b"line_number", b"code", b"detail")
REASONS_OF_HEADER = re.compile(rb'"?line_number"?([,;\t])"?code"?\1"?detail"?\1')
REASONS_OF_LINE = re.compile(rb'"?\d+"?([,;\t])"?\w+"?\1(?:"(?:[^"]|"")*"|(?:(?!\1)[^"])*)\1')
NOTHING = ImportRow(lines=0, accepted=0, duplicates=0, rejected=0, finished=False)


class Rejected(msgspec.Struct, frozen=True):
    line: int
    code: str
    detail: str
    text: bytes


class Piece(msgspec.Struct, frozen=True):
    """Some lines of a file, decoded: their numbers and texts, the last of them and where the file was then."""

    batch: Decoded
    numbers: Sequence[int]
    texts: list[bytes]
    last: int
    position: int
    is_last: bool


@click.command("import")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--zone", metavar="ZONE", help="The zone of events' times that have no offset, such as Europe/Berlin.")
@click.option(
    "--map",
    "mapping",
    metavar="FIELD=COLUMN",
    multiple=True,
    help="The file's name of a column: timestamp, direction, dpu_id or sequence. Give it once for each.",
)
@click.option("--ignore", metavar="COLUMN", multiple=True, help="A column of events that is not to be read.")
def import_files(files: tuple[Path, ...], zone: str | None, mapping: tuple[str, ...], ignore: tuple[str, ...]) -> None:
    """Import CSV files, plain or gzip, straight into the database.

    The first line is the header, its columns in any order and its names in any case, with commas, semicolons or tabs
    between them. The text is UTF-8, or UTF-16 with its mark. The header says what the file is:

    \b
      timestamp,direction,dpu_id[,sequence]            events
      store_id,status,timestamp_utc                    polls of sites, for their uptime
      store_id,day,start_time_local,end_time_local     opening hours of sites (or dayOfWeek)
      store_id,timezone_str                            zones of sites

    Times of events have an offset, or are local ones of --zone: 2026-11-28 10:00, also with seconds, or 28.11.2026
    10:00. A local time that the clocks skipped, or that occurs twice, is rejected. The direction may also be in,
    entry or enter (1), or out, exit or leave (-1).

    A site is a space, made where there is none; its zone is America/Chicago until a file or somebody says another
    one. An import that was interrupted goes on where it stopped when the same file is given again; importing a file
    twice counts its lines once. Rejected lines are written to NAME.rejected.csv in the current directory, behind their
    number, code and reason. Correct them there and import that file: the first three columns are left out.
    """
    settings = offline_settings()
    reading = CsvOptions(_zone(zone), _names(mapping), ignore)
    for file in files:
        _check_header(file, reading)
    run_async(write_horizon(settings), settings.database_url)
    reports = _report_paths(files)
    total = NOTHING
    with _progress() as progress:
        for file in files:
            task = progress.add_task(file.name, total=file.stat().st_size)
            importer = Importer(
                settings.database_url, settings.auto_register, file, reports[file], progress, task, reading
            )
            done = run_async(importer.run(), settings.database_url)
            click.echo(f"{file}: {_summary(done)}")
            if done.rejected:
                click.echo(f"{file}: the rejected lines are in {reports[file]}")
            total = ImportRow(
                lines=total.lines + done.lines,
                accepted=total.accepted + done.accepted,
                duplicates=total.duplicates + done.duplicates,
                rejected=total.rejected + done.rejected,
                finished=True,
            )
    if len(files) > 1:
        click.echo(f"all {len(files)} files: {_summary(total)}")


def _summary(row: ImportRow) -> str:
    return f"accepted {row.accepted}, duplicates {row.duplicates}, rejected {row.rejected}"


def _progress() -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def _report_paths(files: tuple[Path, ...]) -> dict[Path, Path]:
    """Where the rejected lines of each file go; files of the same name in other folders get a number, and so does a
    file whose report would go through a symbolic link."""
    paths: dict[Path, Path] = {}
    given = {file.resolve() for file in files}
    for file in files:
        stem = re.sub(r"(\.csv)?(\.gz)?$", "", file.name, flags=re.IGNORECASE) or file.name
        path, number = Path(f"{stem}.rejected.csv"), 1
        while path in paths.values() or path.is_symlink() or path.resolve() in given:
            number += 1
            path = Path(f"{stem}.{number}.rejected.csv")
        paths.setdefault(file, path)
    return paths


# Reading


class Lines:
    """The lines of a file, plain or gzip, without their ends."""

    def __init__(self, file: Path) -> None:
        self.raw = file.open("rb")
        packed = self.raw.peek(2)[:2] == GZIP_MAGIC
        self.stream = gzip.GzipFile(fileobj=self.raw) if packed else self.raw
        self.decoder: codecs.IncrementalDecoder | None = None

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *_: object) -> None:
        self.raw.close()

    @property
    def position(self) -> int:
        """Bytes of the file that were read."""
        return self.raw.tell()

    def __iter__(self) -> Iterator[bytes]:
        rest, overlong = b"", False
        beginning = self.stream.peek(4)[:4]
        if beginning.startswith(formats.UTF_32_BOMS):
            formats.in_utf_8(beginning)
        if beginning.startswith(formats.UTF_16_BOMS):
            self.decoder = codecs.getincrementaldecoder("utf-16")("replace")
        while block := self.stream.read1(BLOCK_BYTES):
            if self.decoder:
                block = self.decoder.decode(block).encode()
            *lines, rest_of_block = block.split(b"\n")
            if lines:
                # Of a line without end only the beginning is kept.
                lines[0] = rest if overlong else rest + lines[0]
                rest, overlong = b"", False
            for line in lines:
                yield line[:LONGEST_LINE]
            if not overlong:
                rest = (rest + rest_of_block)[:LONGEST_LINE]
                overlong = len(rest) == LONGEST_LINE
        if rest:
            yield rest


class CsvOptions(NamedTuple):
    """How files of events are read that are not as ours."""

    zone: ZoneInfo | None
    names: dict[str, str]
    left_out: tuple[str, ...]

    @property
    def is_plain(self) -> bool:
        return self == CsvOptions(None, {}, ())


def _zone(name: str | None) -> ZoneInfo | None:
    try:
        return ZoneInfo(name) if name else None
    except (KeyError, ValueError, OSError):
        raise click.BadParameter(f"{name!r} is no IANA zone such as Europe/Berlin.", param_hint="--zone") from None


def _names(mapping: tuple[str, ...]) -> dict[str, str]:
    names = {}
    for given in mapping:
        field, _, column = given.partition("=")
        field = "dpu_id" if field == "dpu" else field
        if field not in FIELDS or not column or field in names:
            raise click.BadParameter(
                f"{given!r} must be FIELD=COLUMN, once for each of {', '.join(FIELDS)}.", param_hint="--map"
            )
        names[field] = column
    return names


class Layout(NamedTuple):
    """What a file is, and how its columns stand. `first`: its first line."""

    table: CsvFormat[Any, Any]
    header: CsvHeader
    first: bytes
    has_reasons: bool


def _check_header(file: Path, reading: CsvOptions) -> Layout:
    events = SpreadsheetEvents(*reading)
    first = b""
    try:
        with Lines(file) as lines:
            first = next(iter(lines), b"").rstrip(b"\r").removeprefix(formats.BOM)
        reasons = REASONS_OF_HEADER.match(first)
        if reasons:
            first = first[reasons.end() :]
        table = events if reading.names else polls.table_of(first, (events, *polls.TABLES[1:]))
        header = table.read_header(first)
    except Problem as problem:
        shown = formats.printable(first[:200].decode("utf-8", "replace")) or "nothing"
        remedy = " Or leave it out with --ignore COLUMN." if "is not known here" in problem.detail else ""
        raise click.ClickException(
            f"{file} cannot be imported: its first line is {shown!r}. {problem.detail}{remedy}\n"
            f"Files have one of these headers, in any order:{WANTED}\n"
            "Columns of other names are given with --map FIELD=COLUMN."
        ) from None
    except (EOFError, zlib.error, OSError) as error:
        raise _unreadable(file, error) from None
    if table is not events and not reading.is_plain:
        raise click.ClickException(f"{file} has no events: --zone, --map and --ignore are for those alone.")
    return Layout(table, header, first, reasons is not None)


def _unreadable(file: Path, error: Exception) -> click.ClickException:
    return click.ClickException(f"{file} cannot be read: {error}")


def _digest(file: Path, reading: CsvOptions) -> str:
    """Of the file and of the way in which it is read: an import must not go on in another zone than it began in."""
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    if reading.is_plain:
        return digest
    way = (digest, str(reading.zone), sorted(reading.names.items()), sorted(reading.left_out))
    return hashlib.sha256(repr(way).encode()).hexdigest()


# Storing


class Importer:
    """The import of one file."""

    def __init__(
        self,
        url: str,
        auto_register: bool,
        file: Path,
        report: Path,
        progress: Progress,
        task: TaskID,
        reading: CsvOptions,
    ) -> None:
        self.url = url
        self.auto_register = auto_register
        self.file = file
        self.progress = progress
        self.task = task
        self.digest = _digest(file, reading)
        self.table, self.header, first, self.has_reasons = _check_header(file, reading)
        self.report = Report(report, first, self.header.delimiter)
        self.noted: ImportRow | None = None  # what the database holds of this import
        self.tried: ImportRow | None = None  # what the last try would have it hold
        self.sent = asyncio.Event()  # the lines at hand, to the database
        self.sums = NOTHING  # what has come of the lines so far

    async def run(self) -> ImportRow:
        """Returns the sums over the whole file."""
        async with connected(self.url, BATCH_SECONDS) as connection:
            self.connection = connection
            self.noted = await calls.get_import(connection, self.digest)
            if self.noted is not None and not self.noted.finished:
                self.sums = self.noted
                click.echo(f"{self.file}: going on behind line {self.sums.lines}", err=True)
            self.report.go_on_behind(self.sums.lines)
            try:
                with Lines(self.file) as lines:
                    await self._store_all(lines)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise click.ClickException(
                    f"{self.file} is damaged behind line {self.sums.lines}: {error}. The lines before are stored "
                    f"({_summary(self.sums)}); import the whole file when you have it."
                ) from None
            finally:
                self.report.close()
                if self.connection is not connection:
                    self.connection.terminate()
        return self.sums

    async def _store_all(self, lines: Lines) -> None:
        pieces = self._read(lines)
        piece = await asyncio.to_thread(next, pieces, None)
        while piece is not None:
            storing = asyncio.create_task(self._store(piece))
            storing.add_done_callback(lambda _: self.sent.set())
            # The next lines are decoded while the database is busy with these. Sooner, Python would be: with both.
            await self.sent.wait()
            try:
                following = await asyncio.to_thread(next, pieces, None)
            finally:
                await storing
            self.sent.clear()
            self.progress.update(self.task, completed=piece.position)
            piece = following

    def _read(self, lines: Lines) -> Iterator[Piece]:
        """The lines that are not stored yet. Of a damaged file first those before the damage."""
        rest = iter(lines)
        last = sum(1 for _ in itertools.islice(rest, max(self.sums.lines, 1)))
        is_last = False
        while not is_last:
            rows: list[bytes] = []
            try:
                rows.extend(itertools.islice(rest, BATCH_LINES))
            except (EOFError, zlib.error, gzip.BadGzipFile):
                if rows:  # those before the damage
                    yield self._decode(rows, last + len(rows), lines.position)
                raise
            last += len(rows)
            is_last = len(rows) < BATCH_LINES
            yield self._decode(rows, last, lines.position, is_last)

    def _decode(self, rows: list[bytes], last: int, position: int, is_last: bool = False) -> Piece:
        texts = [line.rstrip(b"\r") for line in rows]
        numbers: Sequence[int] = range(last - len(rows) + 1, last + 1)
        if not all(map(bytes.strip, texts)):
            numbers = [number for number, text in zip(numbers, texts, strict=True) if text.strip()]
            texts = [text for text in texts if text.strip()]
        if self.has_reasons:
            texts = [REASONS_OF_LINE.sub(b"", text, count=1) if REASONS_OF_LINE.match(text) else text for text in texts]
        batch = self.table.decode_lines(self.header, texts)
        return Piece(batch, numbers, texts, last, position, is_last)

    async def _store(self, piece: Piece) -> None:
        """Stores a batch, however often the connection is lost meanwhile."""
        pause, waited = 0.1, 0.0
        while True:
            try:
                if self.connection.is_closed():
                    self.connection = await open_connection(self.url, BATCH_SECONDS)
                await self._store_once(piece)
                return
            except Exception as error:
                if problem_of(error).kind.code != "unavailable":
                    raise
                if waited >= GIVE_UP_SECONDS:
                    raise click.ClickException(
                        f"{in_one_line(error, self.url)} Lines up to {self.sums.lines} of {self.file} are stored; "
                        "run the same command again to go on behind them."
                    ) from error
            await asyncio.sleep(pause)
            waited += pause
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _store_once(self, piece: Piece) -> None:
        async with self.connection.transaction():
            await self.connection.fetchval(LOCK, self.digest)
            found = await calls.get_import(self.connection, self.digest)
            if found is not None and found == self.tried and found != self.noted:
                # Only the answer to the last commit was lost.
                self.noted = self.sums = found
                return
            if found != self.noted:
                raise click.ClickException(f"{self.file} is being imported by another process; nothing is lost.")
            recording = asyncio.create_task(self.table.record(self.connection, piece.batch, self.auto_register))
            await asyncio.sleep(0)  # until it waits
            self.sent.set()
            done = await recording
            rejected = [
                Rejected(piece.numbers[item.index], item.code, item.detail, piece.texts[item.index])
                for item in done.rejected
            ]
            # Before the commit: lines of a batch that is not committed are cut off again.
            self.report.write(self.sums.lines, rejected)
            row = ImportRow(
                lines=piece.last,
                accepted=self.sums.accepted + done.accepted,
                duplicates=self.sums.duplicates + done.duplicates,
                rejected=self.sums.rejected + len(done.rejected),
                finished=piece.is_last,
            )
            await calls.record_import(
                self.connection, digest=self.digest, file_name=self.file.name, **msgspec.structs.asdict(row)
            )
            self.tried = row
        self.noted = self.sums = row


class Report:
    """The rejected lines of one file, as CSV with the header of that file. It is made when there is a first one."""

    def __init__(self, path: Path, header: bytes, delimiter: str) -> None:
        self.path = path
        self.delimiter = delimiter
        self.header = delimiter.encode().join([*REASONS, header]) + b"\n"
        self.file: IO[bytes] | None = None
        self.behind: int | None = None  # the line behind which the last batch began
        self.start = 0  # where that batch's lines begin

    def go_on_behind(self, line: int) -> None:
        """Keeps what an earlier run wrote of the lines up to `line`."""
        if not self.path.is_file():
            return
        kept = 0
        with self._open("r+b") as file:
            first = file.readline()
            if first == self.header:
                kept = file.tell()
                while (row := file.readline()).endswith(b"\n") and self._number(row) <= line:
                    kept = file.tell()
                file.truncate(kept)
        is_of_another_file = line == 0 and first.startswith(REASONS[0])
        if kept == len(self.header) or is_of_another_file:
            self.path.unlink()

    def _open(self, mode: str) -> IO[bytes]:
        """Not through a symbolic link: in a folder of many, somebody could have put one there."""
        return open(self.path, mode, opener=lambda path, flags: os.open(path, flags | os.O_NOFOLLOW, 0o666))

    def _number(self, row: bytes) -> int:
        return int(row.partition(self.delimiter.encode())[0])

    def write(self, behind: int, rejected: list[Rejected]) -> None:
        """Writes the lines of the batch that begins behind line `behind`, once for however many tries."""
        if not rejected and self.file is None:
            return
        try:
            if self.file is None:
                self.file = self._open("ab")
                if not self.file.tell():
                    self.file.write(self.header)
            if self.behind == behind:
                self.file.truncate(self.start)
            self.behind, self.start = behind, self.file.seek(0, os.SEEK_END)
            for item in rejected:
                reasons = (str(item.line), item.code, _quoted(item.detail))
                self.file.write(self.delimiter.join([*reasons, ""]).encode() + self._row(item.text) + b"\n")
            self.file.flush()
        except OSError as error:
            raise click.ClickException(f"{self.path} cannot be written: {error.strerror}.") from None

    def _row(self, line: bytes) -> bytes:
        """As it was; as one cell where its quotes would take in what follows."""
        text = line.decode("latin-1")
        try:
            list(csv.reader([text], delimiter=self.delimiter, strict=True))
        except csv.Error:
            return _quoted(text).encode("latin-1")
        return line

    def close(self) -> None:
        if self.file is not None:
            self.file.close()


def _quoted(text: str) -> str:
    return f'"{text.replace(QUOTE, 2 * QUOTE)}"'
