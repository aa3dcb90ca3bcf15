"""Reading documents, in the same way for training and encoding.

`Documents` reads a folder, a table or a file of lines.  Its remarks count everything that was left
out.
"""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import json
import lzma
import os
import re
import zipfile
import zlib
from collections import defaultdict, deque
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, Callable, Iterator, NamedTuple, TextIO

from ae_bn.errors import UserError
from ae_bn.files import user_path

DELIMITERS = {".csv": ",", ".tsv": "\t"}
TABLES = (*DELIMITERS, ".jsonl", ".ndjson", ".json", ".parquet")
COMPRESSED: dict[str, Callable[..., Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
}
OTHER_FORMATS = set(".tab .xls .xlsx .ods .npz .npy .pdf .docx .odt .feather .arrow".split())
OTHER_FORMATS |= set(".zip .7z .zst .tar .tgz".split())
COLUMNS = ("text", "label", "part", "id")
NAMES = "name"  # the first column of what `ae-bn encode` writes; see `holds_codes`
SIMILAR = [NAMES, "rank", "cosine", "similar", "text"]  # the columns of its answers
BYTE_ORDER_MARKS = {  # UTF-32 comes first, because its mark begins with that of UTF-16
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
UNREADABLE = "\ufffd"  # replaces bytes that are not in the encoding
# Stands for them until they are counted, because a text may hold U+FFFD itself.
UNDECODED = "\udfff"
codecs.register_error("ae_bn.undecoded", lambda error: (UNDECODED, error.end))  # type: ignore
SURROGATE = re.compile("[\ud800-\udfff]")  # half of a character, or a raw byte in a file name
csv.field_size_limit(2**31 - 1)  # a document is one cell


class Document(NamedTuple):
    """A document."""

    name: str  # its path below the folder, the id or number of its row, or the number of its line
    text: str


class Documents:
    """An iterator that reads the documents of a source one by one, in order.

    Parameters
    ----------
    source : str
        The documents, which can be in three kinds of source.  In a folder, every file at any
        depth is a document; linked folders are read, hidden files (their names begin with a dot)
        and binary files are left out.  A table has a required column text and optional columns
        label, part and id: a ``.csv`` or ``.tsv`` with a header, a ``.jsonl`` or ``.ndjson`` with
        an object per line, a ``.json`` with an array of objects, or a ``.parquet`` (which needs the
        package pyarrow).  Any other file, or ``-`` for standard input, has a document per line.
        Tables and files of lines may be compressed (``.gz``, ``.bz2``, ``.xz``).
    encoding : str
        The encoding of the text.  A byte order mark at its start takes precedence.  Bytes that
        cannot be decoded become U+FFFD.
    id_column : str, optional
        The column of a table with the names of the documents.  If it is not given, this is the
        column id; without one, names are the numbers of the rows.  `remarks` count names that
        occur twice.

    Attributes
    ----------
    files : list of str
        The files of a folder, relative to it, in the order of their paths; empty for other
        sources.  A name that is removed before the iteration is not read.
    labels, parts : list of str or None
        The cells of a table's columns label and part, for every document read so far.

    Raises
    ------
    UserError
        If the source does not exist or has an unknown format; during the iteration, if it cannot
        be read or is malformed.
    """

    def __init__(self, source: str, encoding: str = "utf-8", id_column: str | None = None):
        if not source:
            raise UserError("the name of the text is empty: give a file, a folder or -")
        source = source if source == "-" else str(user_path(source))
        self.source, self.encoding = source, encoding
        self.is_folder = source != "-" and os.path.isdir(source)
        self.suffix = suffix_of(source)
        self._left_out: defaultdict[tuple[str, str], _Tally] = defaultdict(_Tally)
        self._undecoded, self._empty = _Tally(), _Tally()
        self._unnamed, self._repeated = _Tally(), _Tally()  # rows of a table
        self._replaced = self._characters = 0  # in documents with undecodable bytes
        self._columns: dict[str, bool] = {}  # a table's columns, and whether they are read
        self._spanning = 0  # rows of several lines
        self._longest = 0, 0  # lines of the longest row, and its number
        self._delimiter = DELIMITERS.get(self.suffix, "")
        if not self.is_folder and self.suffix in OTHER_FORMATS:
            raise UserError(
                f"{printable(source)}: documents cannot be read from {self.suffix} files; save "
                f"them as {', '.join(TABLES)} or as text"
            )
        self._id = None if id_column is None else id_column.strip().lower()
        if self._id is not None and (self.is_folder or self.suffix not in TABLES):
            raise UserError(
                f"{printable(source)}: only a table has a column {id_column!r:.60}: leave out the "
                "name of the column, or give one of " + ", ".join(TABLES)
            )
        if self._id in ("", *COLUMNS[:3]):
            raise UserError(f"column {id_column!r}: the names need a column of their own")
        self.files = self._list_files() if self.is_folder else []
        self.labels: list[str | None] = []
        self.parts: list[str | None] = []
        self._documents = self._read()

    def __iter__(self) -> Documents:
        return self

    def __next__(self) -> Document:
        return next(self._documents)

    def _read(self) -> Iterator[Document]:
        if self.is_folder:
            documents = self._read_files()
        elif self.suffix in TABLES:
            documents = self._read_table()
        else:
            documents = self._read_lines()
        with _reading(self.source, self.encoding):
            for document in documents:
                yield self._noted(document)

    def leave_out(self, name: str, noun: str, rest: str = "") -> None:
        """Count something that is not read.

        Parameters
        ----------
        name : str
            The name of the first such thing is shown as an example.
        noun, rest : str
            What it is, in the singular; the plural adds an s to the noun.
        """
        self._left_out[noun, rest].add(name)

    @property
    def remarks(self) -> list[str]:
        """Lines on what was left out or unreadable; complete at the end of the iteration."""
        lines = []
        unread = [column for column, is_read in self._columns.items() if not is_read]
        if unread:
            read = ", ".join(repr(column) for column, is_read in self._columns.items() if is_read)
            more = ", ..." if len(unread) > 10 else ""
            lines.append(
                f"columns read: {read}; not read: {', '.join(map(repr, unread[:10]))}{more}"
            )
        if self._left_out:
            kinds = (
                f"{tally.count} {noun}{'s' if tally.count > 1 else ''}{rest} ({tally.example})"
                for (noun, rest), tally in self._left_out.items()
            )
            lines.append(f"left out: {', '.join(kinds)}")
        if self._spanning:
            lines.append(
                f"{self._spanning} rows span several lines, most of all row {self._longest[1]} "
                f"with {self._longest[0]} (a quote that is never closed swallows rows)"
            )
        if self._undecoded.count:
            few = self._replaced < self._characters / 2  # only accents among plain letters
            lines.append(
                f"{self._undecoded.count} documents ({self._undecoded.example}) have bytes that "
                f"are not {self.encoding} and cannot be read: name their encoding, perhaps "
                + ("cp1252" if few else "cp1251, gb18030 or shift_jis")
            )
        if self._unnamed.count:
            lines.append(
                f"{self._unnamed.count} rows ({self._unnamed.example}) have no id, and are named "
                "by their numbers"
            )
        if self._repeated.count:
            lines.append(
                f"{self._repeated.count} rows ({self._repeated.example}) have the name of an "
                "earlier row"
            )
        if self._empty.count:
            lines.append(f"{self._empty.count} documents are empty ({self._empty.example})")
        return lines

    def _noted(self, document: Document) -> Document:
        if UNDECODED in document.text:
            self._undecoded.add(document.name)
            self._replaced += document.text.count(UNDECODED)
            self._characters += len(document.text)
        elif not document.text.strip():
            self._empty.add(document.name)
        return document._replace(text=printable(document.text))

    def _list_files(self) -> list[str]:
        files, seen = [], set()
        folders, links = [""], deque()  # links come last, so folders keep their own names
        while folders or links:
            folder = folders.pop() if folders else links.popleft()
            place = os.path.join(self.source, folder)
            try:
                status = os.stat(place)
                entries = sorted(os.listdir(place))
            except OSError as error:
                if not folder:
                    raise UserError(f"cannot read {printable(place)}: {error.strerror}") from None
                self.leave_out(folder, "unreadable folder")
                continue
            if (status.st_dev, status.st_ino) in seen:
                self.leave_out(folder, "linked folder", " read already")
                continue
            seen.add((status.st_dev, status.st_ino))
            for entry in entries:
                name = os.path.join(folder, entry)
                path = os.path.join(self.source, name)
                if entry[0] == ".":
                    self.leave_out(name, f"hidden {'folder' if os.path.isdir(path) else 'file'}")
                elif os.path.isdir(path):
                    (links if os.path.islink(path) else folders).append(name)
                elif os.path.isfile(path):
                    files.append(name)
                else:
                    # Special files are pipes, sockets and devices.
                    link = os.path.islink(path)
                    self.leave_out(name, "broken link" if link else "special file")
        return sorted(files, key=lambda name: name.split(os.sep))

    def _read_files(self) -> Iterator[Document]:
        for name in self.files:
            try:
                content = Path(self.source, name).read_bytes()
            except OSError:
                self.leave_out(name, "unreadable file")
                continue
            text = decode(content, self.encoding)
            if "\0" in text:
                self.leave_out(name, "binary file")
            elif _is_of_codes(text.partition("\n")[0].split(",")):
                self.leave_out(name, "table", " of codes")
            else:
                yield Document(name, text)

    def _read_lines(self) -> Iterator[Document]:
        with _open(self.source, self.encoding, None) as lines:
            for number, line in enumerate(lines, start=1):
                if "\0" in line:
                    raise UserError(
                        f"{printable(self.source)}, line {number}, is not text in "
                        f"{self.encoding}: convert it or leave it out"
                    )
                yield Document(str(number), line)

    def _read_table(self) -> Iterator[Document]:
        names: set[str] = set()  # of rows with an id; numbers do not repeat
        for number, row in enumerate(self._read_rows(), start=1):
            if "\0" in row["text"]:
                raise UserError(
                    f"{printable(self.source)}: row {number} is not text: remove it or convert "
                    "the file"
                )
            self.labels.append(row.get("label"))
            self.parts.append(row.get("part"))
            own = (row.get("id") or "").strip()
            name = own or str(number)
            if self._id or "id" in row:
                if not own:
                    self._unnamed.add(f"row {number}")
                if name in names:
                    self._repeated.add(name)
                names.add(name)
            yield Document(name, row["text"])

    def _read_rows(self) -> Iterator[dict]:
        """Yield the columns text, label, part and id of every row; text is a str."""
        if self.suffix == ".parquet":
            yield from self._read_parquet()
            return
        # No translation of line ends, because those inside a quoted cell belong to the cell.
        with _open(self.source, self.encoding, "") as file:
            if self.suffix in DELIMITERS:
                yield from self._read_csv(file)
            elif self.suffix == ".json":
                yield from self._read_json(file)
            else:
                yield from self._read_jsonl(file)

    def _read_csv(self, file: TextIO) -> Iterator[dict]:
        first = file.readline()
        chosen = re.fullmatch(r'sep=([^"\r\n])\s*', first)  # Excel's line about the delimiter
        self._delimiter = chosen[1] if chosen else self._delimiter
        lines = file if chosen else chain([first], file)
        reader = csv.reader(lines, delimiter=self._delimiter, strict=True)
        number, line, blank = 0, 0, []
        header: list[str] | None = None
        try:
            for row in reader:
                n_lines, line = reader.line_num - line, reader.line_num
                if not row:
                    self.leave_out(f"line {line}", "blank line")
                    continue
                if header is None:
                    header, columns = row, self._find_columns(row)
                    self._check_text(header)
                    continue
                number += 1
                self._spanning += n_lines > 1
                self._longest = max(self._longest, (n_lines, number), key=lambda pair: pair[0])
                if not any(map(str.strip, row)):
                    blank.append(number)  # the end of the table, or a document without text
                    continue
                if len(row) != len(header):
                    raise UserError(
                        f"{printable(self.source)}: row {number} (line {line}) has "
                        f"{len(row)} cells, the header has {len(header)}: put a cell that holds a "
                        f"{self._named_delimiter} into double quotes"
                    )
                yield from (dict.fromkeys(columns, "") for _ in blank)
                blank = []
                yield {name: row[place] for name, place in columns.items()}
            self._check_text(header or [])
        except csv.Error as error:
            raise UserError(
                f"{printable(self.source)}: not a {self.suffix[1:]} file ({error}, row "
                f"{number + 1}, line {reader.line_num})"
            ) from None
        for number in blank:
            self.leave_out(f"row {number}", "empty row", " at the end")

    @property
    def _named_delimiter(self) -> str:
        names = {",": "comma", "\t": "tab", ";": "semicolon"}
        return names.get(self._delimiter, repr(self._delimiter))

    def _check_text(self, header: list[str]) -> None:
        """Raise a UserError if no column is called text, or none as the column of the names."""
        found = self._find_columns(header)
        if "text" in found:
            if self._id is not None and "id" not in found:
                raise UserError(
                    f"{printable(self.source)}: no column {self._id!r:.60}, only "
                    f"{', '.join(map(repr, header))[:200]}: name one of these"
                )
            return
        cells = f", and separate cells by {self._named_delimiter}s" if self._delimiter else ""
        if self._delimiter and len(header) == 1 and ";" in header[0]:
            cells += ", or write sep=; into the first line"
        raise UserError(
            f"{printable(self.source)}: no column 'text', only "
            f"{', '.join(map(repr, header))[:200] or 'no header'}: rename the column that holds "
            f"the text{cells}"
        )

    def _read_jsonl(self, file: TextIO) -> Iterator[dict]:
        number = 0
        for line_number, line in enumerate(file, start=1):
            if line.strip():
                number += 1
                place = f"row {number} (line {line_number})"
                yield self._cells(self._parsed(line, place), place)

    def _read_json(self, file: TextIO) -> Iterator[dict]:
        rows = self._parsed(file.read(), "the whole")
        if isinstance(rows, _Pairs) or not isinstance(rows, list):
            raise UserError(
                f"{printable(self.source)} is not an array of objects: write "
                '[{"text": ...}, ...], or one object per line in a .jsonl'
            )
        for number, row in enumerate(rows, start=1):
            yield self._cells(row, f"row {number}")

    def _read_parquet(self) -> Iterator[dict]:
        pyarrow, parquet = import_pyarrow(f"to read {printable(self.source)}")
        number = 0
        try:
            with _open_bytes(self.source) as file:
                table = parquet.ParquetFile(file)
                names = table.schema_arrow.names
                self._check_text(names)
                columns = [names[place] for place in self._find_columns(names).values()]
                for batch in table.iter_batches(columns=columns):
                    for row in batch.to_pylist():
                        number += 1
                        yield self._cells(_Pairs(row.items()), f"row {number}")
        except pyarrow.ArrowException as error:
            raise UserError(
                f"{printable(self.source)}: not a parquet file ({str(error):.100})"
            ) from None

    def _parsed(self, text: str, place: str) -> Any:
        """Return what JSON says; objects become `_Pairs`."""
        try:
            return json.loads(text, object_pairs_hook=_Pairs)
        except (ValueError, RecursionError) as error:
            if "\0" in text:
                raise self._not_text() from None
            reason = str(error) or type(error).__name__
            raise UserError(
                f"{printable(self.source)}: {place} is not JSON, as a {self.suffix[1:]} file holds "
                f"({reason})"
            ) from None

    def _cells(self, pairs: Any, place: str) -> dict:
        """Return the columns of an object; text is a str, the others become str or None."""
        where = f"{printable(self.source)}: {place}"
        if not isinstance(pairs, _Pairs):
            raise UserError(f'{where} is not an object: write {{"text": ...}}')
        columns = self._find_columns([name for name, _ in pairs])
        row = {name: pairs[at][1] for name, at in columns.items()}
        row = {name: None if value != value else value for name, value in row.items()}  # NaN
        if "text" in row and row["text"] is None:
            row["text"] = ""
        if not isinstance(row.get("text"), str):
            raise UserError(
                f"{where} has no string 'text': rename the column that holds the text (it has "
                f"{', '.join(repr(name) for name, _ in pairs)[:200] or 'no columns'})"
            )
        for name in set(row) - {"text"}:
            if isinstance(row[name], (list, dict, bytes)):
                raise UserError(f"{where}: {name} must be one word or number")
            row[name] = None if row[name] is None else str(row[name])
        return row

    def _not_text(self) -> UserError:
        return UserError(
            f"{printable(self.source)} is not text in {self.encoding}: name its encoding, perhaps "
            "utf-16-le"
        )

    def _find_columns(self, names: list[str]) -> dict[str, int]:
        """Return the places of `COLUMNS`, whose names are found whatever their blanks and case."""
        found: dict[str, int] = {}
        seen: set[str] = set()
        for place, name in enumerate(names):
            if "\0" in name:
                raise self._not_text()
            column = name.replace("\ufeff", "").strip().lower()
            if column in seen & {*COLUMNS, self._id}:
                raise UserError(
                    f"{printable(self.source)} has two columns '{column}': rename or remove one"
                )
            seen.add(column)
            if self._id is not None:  # the column that has this name instead of "id"
                column = "id" if column == self._id else "" if column == "id" else column
            if column in COLUMNS:
                found[column] = place
            self._columns[printable(name)] = column in COLUMNS
        return found


class _Tally:
    """A count of names, and the first name as an example."""

    def __init__(self):
        self.count, self.first = 0, ""

    def add(self, name: str) -> None:
        self.first = self.first or name
        self.count += 1

    @property
    def example(self) -> str:
        return ("such as " if self.count > 1 else "") + printable(self.first)


class _Pairs(list):
    """The names and values of a JSON object, with repeated names."""


def decode(content: bytes, encoding: str) -> str:
    """Return bytes as text, decoded by their byte order mark if they have one, else by encoding.

    What cannot be decoded becomes `UNDECODED`.
    """
    return content.decode(_marked_encoding(content[:4]) or encoding, "ae_bn.undecoded")


def read_text(source: str, encoding: str = "utf-8") -> str:
    """Return the whole text of a file, or of standard input if it is ``-``.

    What cannot be decoded becomes `UNDECODED`.

    Raises
    ------
    UserError
        If the file cannot be read or is not text.
    """
    source = source if source == "-" else str(user_path(source))
    with _reading(source, encoding), _open(source, encoding, None) as file:
        text = file.read()
    if "\0" in text:
        raise UserError(f"{printable(source)} is not text in {encoding}: convert it")
    return text


def import_pyarrow(purpose: str) -> tuple:
    """Return the package pyarrow and its module parquet, or raise a UserError."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise UserError(
            f"{purpose} needs the package pyarrow: pip install 'ae_bn[parquet]'"
        ) from None
    return pyarrow, parquet


def holds_codes(path: Path) -> bool:
    """Return whether a file was written by ``ae-bn encode``, so that the command may replace it."""
    try:
        if path.suffix == ".csv":
            with open(path, encoding="utf-8", errors="replace") as file:
                return _is_of_codes(file.readline().rstrip("\n").split(","))
        if path.suffix == ".parquet":
            pyarrow, parquet = import_pyarrow(f"to replace {path}")
            try:
                return _is_of_codes(parquet.read_schema(path).names)
            except pyarrow.ArrowException:
                return False
        with zipfile.ZipFile(path) as archive:
            return sorted(archive.namelist()) == ["codes.npy", "names.npy"]
    except (OSError, zipfile.BadZipFile):
        return False


def _is_of_codes(columns: list[str]) -> bool:
    """Return whether a table with these columns was written by ``ae-bn encode``."""
    units = [f"unit{number}" for number in range(len(columns) - 1)]
    return columns == SIMILAR or (len(columns) > 1 and columns == [NAMES, *units])


def suffix_of(source: str) -> str:
    """Return the end of a file's name that says what it holds, such as .csv of t.CSV.gz."""
    path = Path(source)
    if path.suffix.lower() in COMPRESSED:
        path = path.with_suffix("")
    return "" if source == "-" else path.suffix.lower()


def printable(name: object) -> str:
    """Return a text whose characters UTF-8 can hold; others, such as raw bytes, are replaced."""
    text = str(name)
    return text if text.isascii() else SURROGATE.sub(UNREADABLE, text)


@contextmanager
def _reading(source: str, encoding: str) -> Iterator[None]:
    """Raise a UserError if what is read cannot be read, is damaged, or has another encoding."""
    shown = printable(source)
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot read {shown}: {error.strerror or error}") from None
    except (EOFError, zlib.error, lzma.LZMAError) as error:
        raise UserError(f"cannot read {shown} ({error}): it is cut or damaged") from None
    except UnicodeError as error:
        raise UserError(
            f"{shown} cannot be read as {encoding} ({error}): name another encoding"
        ) from None


def _open(source: str, encoding: str, newline: str | None) -> TextIO:
    raw = _open_bytes(source)
    marked = _marked_encoding(raw.peek(4)[:4])
    return io.TextIOWrapper(raw, marked or encoding, errors="ae_bn.undecoded", newline=newline)


def _open_bytes(source: str):
    if source == "-":
        return open(0, "rb", closefd=False)
    return COMPRESSED.get(Path(source).suffix.lower(), open)(source, "rb")


def _marked_encoding(start: bytes) -> str | None:
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if start.startswith(mark):
            return encoding
    return None
