"""Manifests: what is read is what was written, and a bad line is named."""

import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carnelian.data.utterance import Manifest, Utterance, parse_line, read_manifest, scan_lines, write_manifest
from carnelian.errors import ManifestError

GOOD = '{"audio_filepath": "a.wav", "duration": 1.5, "text": "one"}'


def written(tmp_path, *lines, end="\n"):
    path = tmp_path / "dev.jsonl"
    path.write_bytes(end.join(lines).encode())
    return path


def test_what_was_written_is_read_again(tmp_path):
    utterances = [
        Utterance(str(tmp_path / "a.wav"), 1.5, "drei Äpfel"),
        Utterance("/elsewhere/b.flac", 2.0, 'he said "no"', 3.25, {"speaker": "x", "marks": [1, {"a": None}]}),
        Utterance("s3://bucket/c.wav", 0.5),
    ]
    assert write_manifest(tmp_path / "dev.jsonl", utterances) == 3
    assert list(read_manifest(tmp_path / "dev.jsonl")) == utterances
    assert list(Manifest(tmp_path / "dev.jsonl")) == utterances
    assert json.loads((tmp_path / "dev.jsonl").read_text().splitlines()[0])["audio_filepath"] == "a.wav"
    assert [path.name for path in tmp_path.iterdir()] == ["dev.jsonl"]


def test_a_failed_write_leaves_the_old_manifest(tmp_path):
    path = written(tmp_path, GOOD)

    def utterances():
        yield Utterance("a.wav", 1.0)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_manifest(path, utterances())
    assert path.read_text() == GOOD
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n \n", "\n\t\r\n"])
def test_byte_order_mark_line_ends_and_blank_lines(tmp_path, end):
    path = written(tmp_path, "\ufeff" + GOOD, GOOD.replace("one", "two"), "", end=end)
    assert [utterance.text for utterance in read_manifest(path)] == ["one", "two"]
    assert [utterance.text for utterance in Manifest(path)] == ["one", "two"]


def test_several_manifests_are_one_sequence(tmp_path):
    for folder, count in (("a", 3), ("b", 0), ("c", 2)):
        write_manifest(
            tmp_path / folder / "m.jsonl", (Utterance(f"{tmp_path}/{folder}/{i}.wav", i + 1.0) for i in range(count))
        )
    manifest = Manifest(*(tmp_path / folder / "m.jsonl" for folder in "abc"))
    assert len(manifest) == 5
    assert manifest.durations.tolist() == [1, 2, 3, 1, 2] and manifest.durations.dtype == np.float32
    assert manifest[3].audio_filepath == f"{tmp_path}/c/0.wav" == manifest[-2].audio_filepath
    assert list(pickle.loads(pickle.dumps(manifest))) == list(manifest)
    with pytest.raises(IndexError):
        manifest[5]


@pytest.mark.parametrize(
    "line, found",
    [
        ('{"audio_filepath": "a.wav", "text": "x"}', 'no "duration"'),
        ('{"duration": 1}', 'no "audio_filepath"'),
        ('{"audio_filepath": "", "duration": 1}', '"audio_filepath" is ""'),
        ('{"audio_filepath": 3, "duration": 1}', '"audio_filepath" is 3'),
        ('{"audio_filepath": "a.wav", "duration": "1"}', '"duration" is "1"'),
        ('{"audio_filepath": "a.wav", "duration": -1}', '"duration" is -1'),
        ('{"audio_filepath": "a.wav", "duration": NaN}', '"duration" is NaN'),
        ('{"audio_filepath": "a.wav", "duration": true}', '"duration" is true'),
        ('{"audio_filepath": "a.wav", "duration": 1, "offset": "x"}', '"offset" is "x"'),
        ('{"audio_filepath": "a.wav", "duration": 1, "text": 5}', '"text" is 5'),
        ('{"audio_filepath": "a.wav", "duration": 1', "Expecting"),
        ('{"audio_filepath": "a.wav", "duration": 1, "shard_id": "x"}', '"shard_id" is "x"'),
        ('{"audio_filepath": "a.wav", "duration": 1, "shard_id": 1.5}', '"shard_id" is 1.5'),
        ('{"audio_filepath": "a.wav", "duration": 1, "shard_id": 99999999999999999999}', '"shard_id" is 9999'),
        ('{"audio_filepath": "a.wav", "duration": 1, "shard_id": -3}', '"shard_id" is -3'),
        ("[1, 2]", "a JSON list"),
        ("a.wav\tone two", "Expecting value"),
        ("[" * 100_000, "nested too deep"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, found):
    path = written(tmp_path, GOOD, line, "   " + GOOD)
    for read in (Manifest, lambda path: list(read_manifest(path))):
        with pytest.raises(ManifestError) as error:
            read(path)
        assert str(error.value).startswith(f"{path}:2: not an utterance (") and found in str(error.value)
        assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_a_bad_line_beyond_the_first_block(tmp_path, monkeypatch):
    monkeypatch.setattr("carnelian.data.utterance.READ_BYTES", 100)
    path = written(tmp_path, *[GOOD] * 50, "", GOOD + "}", GOOD)
    with pytest.raises(ManifestError, match=r"dev\.jsonl:52: "):
        Manifest(path)


def test_a_missing_manifest_is_one_line(tmp_path):
    with pytest.raises(ManifestError, match=r"none\.jsonl: No such file"):
        Manifest(tmp_path / "none.jsonl")


ALIKE = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
VALUES = st.one_of(st.text(), st.floats(0, 1e6), st.integers(-5, 10**12), st.booleans(), st.none(), st.lists(st.text()))


@ALIKE
@given(
    st.dictionaries(
        st.sampled_from(["duration", "audio_filepath", "text", "offset", "shard_id", "a", '"', "é"]), VALUES
    ),
    st.booleans(),
    st.sampled_from([(",", ":"), (" , ", " :\t")]),
)
def test_the_scan_agrees_with_the_parser(keys, ascii_only, separators):
    line = json.dumps(keys, ensure_ascii=ascii_only, separators=separators).encode(errors="surrogatepass")
    text = b"\n" + line + b"\n \n" + GOOD.encode()
    starts, durations, shards = scan_lines(np.frombuffer(text, np.uint8), 0, 5)
    assert starts.tolist() == [1, len(line) + 4] and durations[1] == 1.5
    if not np.isnan(durations[0]):  # nan leaves the judgement to the parser
        utterance = parse_line(line, "")
        assert durations[0] == np.float32(utterance.duration) and shards[0] == utterance.more.get("shard_id", -1)


@ALIKE
@given(st.binary(max_size=60))
def test_the_scan_survives_anything(noise):
    text = GOOD.encode()[: len(noise)] + noise + b"\n" + GOOD.encode()
    starts, durations, _ = scan_lines(np.frombuffer(text, np.uint8), 0, text.count(b"\n") + 1)
    assert starts[-1] == text.rfind(b"\n") + 1 and durations[-1] == 1.5


@pytest.mark.slow
def test_a_million_lines_are_opened_fast_and_in_little_memory(tmp_path):
    line = (
        '{{"audio_filepath": "train/{:05d}.flac", "duration": 12.25, "text": "'
        + "she said what she had said " * 5
        + '"}}\n'
    )
    lines = "".join(line.format(index) for index in range(10_000)).encode()
    with open(tmp_path / "m.jsonl", "wb") as file:
        for _ in range(100):
            file.write(lines)
    script = (
        "import sys, time; from pathlib import Path; from carnelian.data.utterance import Manifest; begun = time.process_time();"
        "manifest = Manifest(sys.argv[1]); used = time.process_time() - begun;"
        "status = Path('/proc/self/status'); text = status.read_text() if status.exists() else 'VmHWM: 0';"
        "print(len(manifest), used, text.partition('VmHWM:')[2].split()[0])"
    )
    for _ in range(2):  # the first may compile
        printed = subprocess.run([sys.executable, "-c", script, tmp_path / "m.jsonl"], check=True, capture_output=True)
    count, seconds, kilobytes = map(float, printed.stdout.split())
    assert count == 1_000_000 and seconds < 5 and kilobytes < 200_000


def test_a_manifest_that_is_cut_while_it_is_open_is_one_line(tmp_path):
    """Not SIGBUS, as where a mapped file becomes shorter."""
    path = tmp_path / "m.jsonl"
    path.write_text('{"audio_filepath": "a.wav", "duration": 1.0, "text": "a"}\n' * 20_000)
    manifest = Manifest(path)
    assert manifest[19_999].text == "a"
    with open(path, "r+b") as file:
        file.truncate(100)
    with pytest.raises(ManifestError, match="not an utterance"):
        manifest[19_998]
    assert manifest[0].text == "a"


def test_a_manifest_that_is_no_longer_used_leaves_no_file_open(tmp_path):
    manifest = Manifest(written(tmp_path, GOOD))
    assert manifest[0].text == "one"
    (file,) = manifest.files.values()
    other = pickle.loads(pickle.dumps(manifest))
    del manifest
    assert file.closed
    assert other[0].text == "one"


def test_a_fifo_is_no_manifest(tmp_path):
    os.mkfifo(tmp_path / "m.jsonl")
    with pytest.raises(ManifestError, match="a FIFO, socket or device"):
        Manifest(tmp_path / "m.jsonl")
