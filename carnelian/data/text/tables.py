"""CSV and TSV files as rows, in the encodings and dialects in which people have them; each row is used whole, or named."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from carnelian.console import note
from carnelian.data.text.text_files import decode_text
from carnelian.errors import ManifestError
from carnelian.files import one_line, reading

csv.field_size_limit(1 << 27)  # bytes; of 128 kB otherwise, which a long transcript exceeds
LONGEST_FIELD = 100  # lines that a quoted field may go over


@dataclass(frozen=True, slots=True)
class Table:
    """A CSV or TSV: the names of its columns in lower case, its delimiter, and its lines after the first."""

    path: Path
    names: list[str]
    delimiter: str
    lines: list[str]

    def rows(self, text: str) -> Iterator[tuple[int, dict[str, str]]]:
        """Yields (line number, fields by name) of each row.

        text: the column of the text, which takes in delimiters that should have been quoted; a note counts such rows, and
        those with a quote that is never closed. Raises ManifestError for a row with fewer fields than are named.
        """
        place, joined, open_quotes, at = self.names.index(text), 0, 0, 0
        while at < len(self.lines):
            number, line = at + 2, self.lines[at]
            fields, used = self.fields(at)
            at += max(used, 1)
            if not used:
                open_quotes += 1
            if not line.strip():
                continue
            while len(fields) > len(self.names) and not fields[-1].strip():
                fields.pop()
            if (more := len(fields) - len(self.names)) > 0:
                joined += 1
                fields[place : place + more + 1] = [self.delimiter.join(fields[place : place + more + 1])]
            if len(fields) < len(self.names) and len(fields) <= max(place, self.last_needed):
                raise ManifestError(
                    f"{self.path}:{number}: {len(self.names)} columns expected, {len(fields)} found. Fix the line"
                )
            yield number, dict(zip(self.names, [*fields, *[""] * (len(self.names) - len(fields))]))
        for count, what in (
            (joined, f'with "{self.delimiter}" in a text without quotes'),
            (open_quotes, "with an open quote"),
        ):
            if count:
                note(f"{self.path}: {count} rows {what} are taken as they stand")

    @property
    def last_needed(self) -> int:
        """The index of the column of the recordings."""
        return next((index for index, name in enumerate(self.names) if name in PATHS), 0)

    def fields(self, at: int) -> tuple[list[str], int]:
        """The fields of the row that begins at a line, and how many lines it takes; 0 for one whose quote is never closed."""
        line = self.lines[at]
        if self.delimiter == "\t" or '"' not in line:
            return line.split(self.delimiter), 1
        for count in range(1, LONGEST_FIELD):
            if count > 1 and (at + count > len(self.lines) or self.is_row(self.lines[at + count - 1])):
                break
            try:
                [fields] = csv.reader(["\n".join(self.lines[at : at + count])], delimiter=self.delimiter, strict=True)
                return fields, count
            except csv.Error as error:
                if "unexpected end" not in str(error):  # a quote in the middle of a field, which stands for itself
                    [fields] = csv.reader([line], delimiter=self.delimiter)
                    return (fields, 1) if len(fields) == len(self.names) else (line.split(self.delimiter), 1)
        return line.split(self.delimiter), 0

    def is_row(self, line: str) -> bool:
        """Whether a line is a row of its own, which a quoted field before it has not meant to take in."""
        return line.count(self.delimiter) == len(self.names) - 1 and len(self.names) > 1


PATHS = ("audio_filepath", "wav_filename", "path", "audio", "audio_path", "file", "file_name", "filename", "wav")


def read_listing(path: Path) -> Table:
    """The table in a CSV or TSV, whose first line names the columns. Raises ManifestError."""
    with reading(path, "a CSV or TSV of recordings", ManifestError):
        text, encoding = decode_text(path.read_bytes())
    if encoding not in ("utf-8", "utf-16"):
        note(f"{path}: not UTF-8, read as {encoding}")
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    header = lines[0]
    delimiter = "\t" if "\t" in header else max(",;|", key=header.count)
    names = [name.strip().strip('"').strip().lower() for name in header.split(delimiter)]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ManifestError(one_line(f'{path}: two of its columns are called "{twice}". Name each column once'))
    return Table(path, names, delimiter, lines[1:])
