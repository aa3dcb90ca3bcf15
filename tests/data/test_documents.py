"""Documents as they are read: what is there is read, or a line says that it is not."""

from __future__ import annotations

import csv
import gzip
import json
import os
import socket
import sys

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_corpus import own_directories as own_directories
from test_corpus import refused, write_folder

from ae_bn.data.documents import Documents, read_text
from ae_bn.errors import UserError


def read(source, encoding="utf-8"):
    """Return the documents of a source as pairs, and the remarks on them."""
    documents = Documents(str(source), encoding)
    pairs = [tuple(document) for document in documents]
    return pairs, documents.remarks


# Folders.


def test_a_folder_is_read_at_any_depth_without_what_is_hidden(tmp_path):
    files = {"a.txt": "gull", "b/c/d.txt": "wren", "b/.swp": "x", ".git/config": "x", "a.md": "cod"}
    pairs, remarks = read(write_folder(tmp_path / "texts", {**files, ".DS_Store": b"\0"}))
    assert pairs == [("a.md", "cod"), ("a.txt", "gull"), (os.path.join("b", "c", "d.txt"), "wren")]
    (remark,) = remarks
    assert "2 hidden files (such as .DS_Store)" in remark
    assert "1 hidden folder (.git)" in remark


def test_linked_folders_are_read_once(tmp_path):
    write_folder(tmp_path, {"texts/real/1": "gull", "elsewhere/2": "wren"})
    (tmp_path / "texts" / "away").symlink_to("../elsewhere")
    (tmp_path / "texts" / "again").symlink_to("real")
    (tmp_path / "texts" / "loop").symlink_to(".")
    (tmp_path / "texts" / "one").symlink_to("real/1")
    (tmp_path / "texts" / "gone").symlink_to("nowhere")
    pairs, remarks = read(tmp_path / "texts")
    assert pairs == [("away/2", "wren"), ("one", "gull"), ("real/1", "gull")]
    assert "2 linked folders read already" in remarks[0] and "1 broken link (gone)" in remarks[0]


def test_pipes_and_sockets_are_not_waited_for(tmp_path):
    folder = write_folder(tmp_path / "t", {"1": "gull"})
    os.mkfifo(tmp_path / "t" / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(folder)  # the names of sockets are short
        try:
            server.bind("socket")
        finally:
            os.chdir(here)
        pairs, remarks = read(folder)
    assert pairs == [("1", "gull")]
    assert remarks == ["left out: 2 special files (such as pipe)"]


def test_what_is_no_text_is_left_out_and_named(tmp_path):
    files = {"1": "gull", "photo": b"\x89PNG\0", "codes.csv": "name,unit0,unit1\n1,.5,.5\n"}
    folder = write_folder(tmp_path / "t", files)
    (tmp_path / "t" / "unreadable").symlink_to("/proc/self/mem")  # even for the superuser
    pairs, remarks = read(folder)
    assert pairs == [("1", "gull")]
    (remark,) = remarks
    for part in ("1 binary file (photo)", "1 table of codes (codes.csv)"):
        assert part in remark
    assert "unreadable" in remark


def test_empty_documents_are_counted(tmp_path):
    pairs, remarks = read(write_folder(tmp_path / "t", {"1": "gull", "2": "", "3": " \n"}))
    assert len(pairs) == 3 and remarks == ["2 documents are empty (such as 2)"]


def test_a_source_that_is_not_there(tmp_path):
    with refused("name of the text is empty"):
        read("")
    with refused("cannot read", "nowhere"):
        read(tmp_path / "nowhere")
    with refused("File name too long"):
        read(tmp_path / ("x" * 300))
    with refused("no home directory ~nobody here"):
        read("~nobody here/x.csv")
    with refused("no file can have this name"):
        read("a\0b")
    for name in ("t.tab", "t.XLSX", "t.csv.zip"):
        (tmp_path / name).write_text("x")
        with refused(name, "save them as .csv"):
            read(tmp_path / name)


# Encodings.


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("name", ["folder", "t.txt", "t.csv", "t.TSV", "t.jsonl"])
def test_a_byte_order_mark_is_believed_and_not_read(name, encoding, tmp_path):
    rows = {
        "folder": "gull café",
        "t.txt": "gull café\nwren\n",
        "t.csv": "label,text\nbird,gull café\n",
        "t.TSV": "text\tlabel\r\ngull café\tbird\r\n",
        "t.jsonl": json.dumps({"label": "bird", "text": "gull café"}, ensure_ascii=False) + "\n\n",
    }
    path = tmp_path / "t" / name
    path.parent.mkdir()
    path.write_bytes(rows[name].encode(encoding))
    documents = Documents(str(path.parent if name == "folder" else path))
    assert next(documents)[1].strip() == "gull café"
    list(documents)
    assert documents.remarks == []
    if name[-3:] in ("csv", "TSV", "onl"):
        assert documents.labels == ["bird"] and documents.parts == [None]
    assert read_text(str(path)).startswith(rows[name][:4])


@pytest.mark.parametrize("name", ["folder", "t.txt", "t.csv", "t.jsonl"])
def test_bytes_that_are_not_in_the_encoding_are_counted(name, tmp_path):
    path = tmp_path / "t" / name
    path.parent.mkdir()
    start, end = {"t.csv": (b"text\n", b""), "t.jsonl": (b'{"text": "', b'"}')}.get(
        name, (b"", b"")
    )
    path.write_bytes(start + "déjà vu in many plain words".encode("cp1252") + end + b"\n")
    source = path.parent if name == "folder" else path
    pairs, (remark,) = read(source)
    assert "d\ufffdj\ufffd vu" in pairs[0][1]
    assert "1 documents" in remark and "not utf-8" in remark and "perhaps cp1252" in remark
    pairs, remarks = read(source, "cp1252")
    assert "déjà vu" in pairs[0][1] and remarks == []
    path.write_bytes(start + "привет мир".encode("cp1251") + end)
    assert "cp1251" in read(source)[1][0]


@pytest.mark.parametrize("name", ["folder", "t.txt", "t.csv", "t.jsonl"])
def test_a_replacement_character_of_the_text_itself_is_text(name, tmp_path):
    """Of two documents with one, only that which also has another byte is undecodable."""
    rows = {"t.csv": b"text\n%s\n%s\n", "t.jsonl": b'{"text": "%s"}\n{"text": "%s"}\n'}
    own, other = "a \ufffd b".encode(), "c \ufffd ".encode() + b"\xe9"
    if name == "folder":
        source = write_folder(tmp_path / "t", {"1": own, "2": other})
    else:
        source = tmp_path / name
        source.write_bytes(rows.get(name, b"%s\n%s\n") % (own, other))
    pairs, (remark,) = read(source)
    assert [text.strip() for _, text in pairs] == ["a \ufffd b", "c \ufffd \ufffd"]
    assert "1 documents (2) have bytes that are not utf-8" in remark


def test_text_of_another_width_without_a_mark_is_named(tmp_path):
    folder = write_folder(tmp_path / "t", {"1": "gull".encode("utf-16-le"), "2": "wren"})
    assert "1 binary file (1)" in read(folder)[1][0]
    assert ("1", "gull") in read(folder, "utf-16-le")[0]
    (tmp_path / "t.txt").write_bytes("gull\nwren\n".encode("utf-16-le"))
    with refused("t.txt, line 1, is not text in utf-8"):
        read(tmp_path / "t.txt")
    (tmp_path / "t.csv").write_bytes("text\nwren\n".encode("utf-16-le"))
    with refused("t.csv is not text in utf-8", "perhaps utf-16-le"):
        read(tmp_path / "t.csv")
    with refused("t.txt", "utf-16", "name another encoding"):
        read(tmp_path / "t.txt", "utf-16")


def test_names_and_texts_hold_no_halves_of_characters(tmp_path):
    (tmp_path / "t.jsonl").write_text(r'{"text": "gull \ud83d", "label": "x"}' + "\n")
    assert read(tmp_path / "t.jsonl")[0] == [("1", "gull \ufffd")]


# Tables.


def test_columns_are_found_whatever_their_case_and_named_if_not_read(tmp_path):
    (tmp_path / "t.CSV").write_text(' Label,TEXT ,"",labels\nbird,gull,1,x\n')
    documents = Documents(str(tmp_path / "t.CSV"))
    assert list(documents) == [("1", "gull")] and documents.labels == ["bird"]
    assert documents.remarks == ["columns read: ' Label', 'TEXT '; not read: '', 'labels'"]
    (tmp_path / "t.jsonl").write_text('{"Text": "gull"}\n{"text": "wren", "split": "test"}\n')
    pairs, remarks = read(tmp_path / "t.jsonl")
    assert len(pairs) == 2 and remarks == ["columns read: 'Text', 'text'; not read: 'split'"]


KINDS = "csv tsv jsonl ndjson json parquet csv.gz tsv.bz2 jsonl.xz json.gz parquet.gz".split()
TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"))


def write(table, path):
    """Write a table with pandas, in the kind that its name says."""
    kind = path.suffixes[0]
    if kind in (".csv", ".tsv"):
        table.to_csv(
            path, index=False, sep={".csv": ",", ".tsv": "\t"}[kind], quoting=csv.QUOTE_ALL
        )
    elif kind == ".parquet":
        content = table.to_parquet(index=False)
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    else:
        table.to_json(path, orient="records", lines=kind != ".json")


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20, deadline=None, derandomize=True)
@given(texts=st.lists(TEXT, min_size=1))
@example(texts=["", "a\r\nb\rc\n", '"', "\ufeff", "sep=,", "\x1c\x85\u2028"])
def test_a_table_of_any_kind_gives_back_what_was_written(kind, texts, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / f"t.{kind}"
    write(pd.DataFrame({"text": texts, "label": "x", "more": 1}), path)
    documents = Documents(str(path))
    assert [text for _, text in documents] == texts
    assert documents.labels == ["x"] * len(texts)
    assert documents.remarks[0] == "columns read: 'text', 'label'; not read: 'more'"


def test_names_that_occur_twice_are_told(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("id,text\na,gull\nb,wren\na,cod\n,owl\n4,tern\n")
    pairs, remarks = read(path)
    assert [name for name, _ in pairs] == ["a", "b", "a", "4", "4"]
    assert "2 rows (such as a) have the name of an earlier row" in remarks

    path.write_text("id,text\n2,gull\n,owl\n")  # the second has the number of its row
    assert "1 rows (2) have the name of an earlier row" in read(path)[1]

    path.write_text("text\ngull\ngull\n")
    assert read(path)[1] == []


def test_lines_may_be_compressed_and_damage_is_told(tmp_path):
    content = gzip.compress(b"gull\nwren\n" * 1000)
    (tmp_path / "t.txt.gz").write_bytes(content)
    assert len(read(tmp_path / "t.txt.gz")[0]) == 2000
    assert read_text(str(tmp_path / "t.txt.gz")).startswith("gull\n")
    for damaged in (content[:-9], content[:20] + b"\xff" * 9 + content[29:]):
        (tmp_path / "t.txt.gz").write_bytes(damaged)
        with refused("t.txt.gz", "cannot read"):
            read(tmp_path / "t.txt.gz")
        with refused("t.txt.gz", "cannot read"):
            read_text(str(tmp_path / "t.txt.gz"))


def test_a_line_of_excel_about_the_delimiter(tmp_path):
    (tmp_path / "t.csv").write_text("\ufeffsep=;\r\nlabel;text\r\nbird;gull, wren\r\n;\r\n")
    documents = Documents(str(tmp_path / "t.csv"))
    assert list(documents) == [("1", "gull, wren")] and documents.labels == ["bird"]
    assert documents.remarks == ["left out: 1 empty row at the end (row 2)"]


def test_without_pyarrow_a_line_says_so(tmp_path, monkeypatch):
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with refused("t.parquet", "pip install 'ae_bn[parquet]'"):
        read(tmp_path / "t.parquet")


def test_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "t.txt").write_text("gull")
    assert read("~/t.txt")[0] == [("1", "gull")] and read_text("~/t.txt") == "gull"


TABLES = {
    "twice.csv": ("text,label,Text\nx,y,\n", ["two columns 'text'"]),
    "twice.jsonl": ('{"text": "x", "text": ""}', ["two columns 'text'"]),
    "body.csv": ("body,label\nx,y\n", ["no column 'text'", "'body', 'label'"]),
    "semicolon.csv": ("text;label\nx;y\n", ["no column 'text'", "'text;label'", "commas", "sep=;"]),
    "body.jsonl": ('{"body": "x"}', ["row 1 (line 1) has no string 'text'", "'body'"]),
    "empty.csv": ("", ["no column 'text'", "no header"]),
    "long.csv": ("text,label\nx,y\nx, z,y\n", ["row 2 (line 3) has 3 cells, the header has 2"]),
    "long.tsv": ("text\tlabel\nx\ty\tz\n", ["row 1 (line 2) has 3 cells", "tab"]),
    "last.csv": ("label,text\ny,x,\n", ["row 1 (line 2) has 3 cells"]),
    "short.csv": ('text,label\n"a\nb",y\nx\n', ["row 2 (line 4) has 1 cells, the header has 2"]),
    "quote.csv": ('text,label\nx,y\n"x,y\n', ["not a csv file", "row 2"]),
    "list.jsonl": ('{"text": "x"}\n["x"]', ["row 2 (line 2) is not an object"]),
    "list.json": ('[{"text": "x"}, 3]', ["row 2 is not an object"]),
    "columns.json": ('{"text": ["x"]}', ["not an array of objects", ".jsonl"]),
    "cut.json": ('[{"text": "x"}', ["the whole is not JSON"]),
    "bytes.parquet": ("PAR1", ["not a parquet file"]),
    "text.csv.gz": ("text\nx\n", ["cannot read", "Not a gzipped file"]),
    "text.csv.xz": ("text\nx\n", ["cannot read", "damaged"]),
    "sep.csv": ("sep=;\nbody;label\nx;y\n", ["no column 'text'", "by semicolons"]),
    "cut.jsonl": ('{"text": "x"}\n\n{"text"', ["row 2 (line 3) is not JSON"]),
    "number.jsonl": ('{"text": 3}', ["row 1 (line 1) has no string 'text'"]),
    "labels.jsonl": ('{"text": "x", "label": ["y", "z"]}', ["row 1", "label must be one"]),
    "zero.jsonl": (r'{"text": "x\u0000"}', ["row 1 is not text"]),
}


@pytest.mark.parametrize("name", TABLES)
def test_malformed_rows_are_refused_by_their_number(name, tmp_path):
    content, parts = TABLES[name]
    (tmp_path / name).write_text(content)
    with refused(name, *parts):
        read(tmp_path / name)


def test_rows_as_they_should_be(tmp_path):
    (tmp_path / "t.csv").write_text('text\n"gull, wren\nand ""cod"""\n\n""\ntern\n')
    pairs, remarks = read(tmp_path / "t.csv")
    assert pairs == [("1", 'gull, wren\nand "cod"'), ("2", ""), ("3", "tern")]
    assert remarks[0] == "left out: 1 blank line (line 4)"
    assert remarks[1].startswith("1 rows span several lines, most of all row 1 with 2 (")
    assert remarks[2:] == ["1 documents are empty (2)"]
    with pytest.raises(UserError):
        next(Documents(str(tmp_path / "t.txt")))
