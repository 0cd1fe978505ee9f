"""Shards: the same utterances as without them, from a disk or a URL, each once; hostile ones are one line."""

import io
import json
import os
import signal
import tarfile

import fsspec
import numpy as np
import pytest
import soundfile
import torch

from carnelian.commands.shard import shard
from carnelian.data import shards as module
from carnelian.data.alphabet import ENGLISH, Alphabet
from carnelian.data.audio import load_audio
from carnelian.data.batch import load_batches, padding_share, plan_batches
from carnelian.data.shards import Shard, fetch, write_shard
from carnelian.data.utterance import Manifest, Utterance, write_manifest
from carnelian.errors import AudioError, ManifestError


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A manifest of 40 short recordings, packed into 7 shards in the folder beside it."""
    folder, rng = tmp_path_factory.mktemp("corpus"), np.random.default_rng(0)
    utterances = []
    for index in range(40):
        audio = 0.1 * rng.standard_normal(int(rng.integers(800, 4000)))
        soundfile.write(folder / f"{index}.flac", audio, 8000)
        utterances.append(Utterance(str(folder / f"{index}.flac"), len(audio) / 8000, f"word {index}"))
    write_manifest(folder / "m.jsonl", utterances)
    shard([str(folder / "m.jsonl")], out=folder / "shards", shards=7, seed=3)
    return folder


@pytest.fixture
def remote(corpus):
    """The shards at a URL; gives the URL of their folder."""
    files = fsspec.filesystem("memory")
    files.put(str(corpus / "shards"), "/corpus", recursive=True)
    module.opened.clear()
    yield "memory://corpus"
    files.rm("/corpus", recursive=True)


def by_text(manifest):
    return {utterance.text: load_audio(utterance, 8000) for utterance in manifest}


def test_shards_hold_what_the_files_held(corpus):
    files, packed = by_text(Manifest(corpus / "m.jsonl")), by_text(Manifest(corpus / "shards" / "manifest.jsonl"))
    assert files.keys() == packed.keys() and len(files) == 40
    for text, audio in files.items():
        np.testing.assert_array_equal(packed[text], audio)


def test_shards_at_a_url(corpus, remote):
    manifest = Manifest(f"{remote}/manifest.jsonl")
    files, packed = by_text(Manifest(corpus / "m.jsonl")), by_text(manifest)
    assert manifest[0].audio_filepath.startswith(f"{remote}/shard_00000.tar/")
    assert all(np.array_equal(packed[text], audio) for text, audio in files.items())


def test_a_recording_at_a_url(corpus):
    fsspec.filesystem("memory").pipe("/lone.flac", (corpus / "3.flac").read_bytes())
    np.testing.assert_array_equal(load_audio("memory://lone.flac", 8000), load_audio(corpus / "3.flac", 8000))


@pytest.mark.parametrize("ranks", [1, 2, 3, 7, 9])
@pytest.mark.parametrize("limit", [{"batch_size": 3}, {"batch_seconds": 1.0}])
def test_no_repeat_and_no_loss_whatever_the_ranks(corpus, ranks, limit):
    manifest = Manifest(corpus / "shards" / "manifest.jsonl")
    for epoch in range(3):
        plans = [
            plan_batches(manifest.durations, shards=manifest.shards, **limit, epoch=epoch, rank=rank, ranks=ranks)
            for rank in range(ranks)
        ]
        assert len({len(plan) for plan in plans}) == 1
        assert sorted(np.concatenate([batch for plan in plans for batch in plan])) == list(range(40))


def test_an_epoch_goes_through_the_shards_a_few_at_a_time():
    rng = np.random.default_rng(0)
    durations, shards = rng.uniform(1, 16, 10_000).astype("f4"), np.repeat(np.arange(50), 200)
    plans = [plan_batches(durations, shards=shards, batch_size=16, seed=1, epoch=epoch) for epoch in range(2)]
    for plan in plans:
        assert sorted(np.concatenate(plan)) == list(range(10_000)) and padding_share(plan, durations) <= 0.05
        seen = [set(shards[np.concatenate(plan[first : first + 100])]) for first in range(0, len(plan), 100)]
        assert all(len(some) <= 2 * 8 for some in seen), "a hundred batches touch at most two groups of eight"
    assert plans[0][0].tolist() != plans[1][0].tolist()
    parts = [
        {int(shards[i]) for b in plan_batches(durations, shards=shards, batch_size=16, rank=r, ranks=4) for i in b}
        for r in range(4)
    ]
    assert sum(map(len, parts)) <= 50 + 3, "a rank reads its own shards, and at most one of each neighbour's"


def test_too_many_processes_are_one_line():
    with pytest.raises(ManifestError, match=r"too few|utterances for"):
        plan_batches(np.ones(4), shards=np.zeros(4, int), batch_size=4, ranks=5)


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("start", [0, 4])
def test_batches_from_a_url_are_those_from_the_disk(corpus, remote, workers, start):
    def loaded(manifest, **how):
        plan = plan_batches(manifest.durations, shards=manifest.shards, batch_size=3, seed=1, epoch=2)
        return load_batches(manifest, plan, alphabet=Alphabet(ENGLISH), sample_rate=16000, epoch=2, **how)

    local = list(loaded(Manifest(corpus / "shards" / "manifest.jsonl"), workers=0))[start:]
    for one, other in zip(
        local, loaded(Manifest(f"{remote}/manifest.jsonl"), workers=workers, start=start), strict=True
    ):
        assert torch.equal(one.audio, other.audio) and one.texts == other.texts


def test_only_the_rest_of_the_shards_is_fetched_after_a_resume(corpus, remote, monkeypatch):
    fetched = []
    monkeypatch.setattr(module, "fetch", lambda url: fetched.append(url) or fetch(url))
    manifest = Manifest(f"{remote}/manifest.jsonl")
    monkeypatch.setattr("carnelian.data.batch.AT_ONCE", 1)
    plan = plan_batches(manifest.durations, shards=manifest.shards, batch_size=6)
    list(load_batches(manifest, plan, alphabet=Alphabet(ENGLISH), sample_rate=8000, start=len(plan) - 2))
    assert 1 <= len({url for url in fetched if url.endswith(".tar")}) <= 2
    assert len(fetched) == len(set(fetched)), "each once"


def test_a_connection_that_breaks_is_taken_up_where_it_stopped(corpus, remote, monkeypatch):
    class Breaking(io.BytesIO):
        served = 0

        def read(self, size=-1):
            Breaking.served += 1
            if Breaking.served in (2, 4):
                raise ConnectionError("reset by peer")
            return super().read(min(size, 5000))

    content = np.random.default_rng(0).bytes(20_000)
    monkeypatch.setattr(module, "PAUSE", 0.0)
    monkeypatch.setattr(fsspec, "open", lambda url, mode: Breaking(content))
    assert fetch("memory://x").read() == content
    assert Breaking.served == 7, "no byte was read twice"


def test_a_server_that_cannot_go_on_in_the_middle(monkeypatch):
    class Stream(io.BytesIO):
        opened = 0

        def read(self, size=-1):
            if Stream.opened == 1 and self.tell():
                raise ConnectionError("reset by peer")
            return super().read(min(size, 5000))

        def seek(self, *place):
            raise ValueError("Cannot seek streaming HTTP file")

    def opened(url, mode, **how):
        assert how == ({} if Stream.opened == 1 else {"block_size": 0})
        Stream.opened += 1
        return Stream(content)

    content = np.random.default_rng(0).bytes(20_000)
    monkeypatch.setattr(module, "PAUSE", 0.0)
    monkeypatch.setattr(fsspec, "open", opened)
    assert fetch("https://x").read() == content and Stream.opened == 3


def test_a_connection_that_stays_broken_is_one_line(monkeypatch):
    def broken(url, mode):
        raise ConnectionError("reset by peer")

    monkeypatch.setattr(module, "PAUSE", 0.0)
    monkeypatch.setattr(fsspec, "open", broken)
    with pytest.raises(ManifestError, match=r"memory://x: reading failed 5 times \(reset by peer\)"):
        fetch("memory://x")
    monkeypatch.undo()
    for url in ("memory://none/at/all", "nothing://x"):
        with pytest.raises(ManifestError, match=url):
            fetch(url)


def test_a_cut_shard_is_one_line_wherever_it_is_cut(corpus, tmp_path):
    whole = (corpus / "shards" / "shard_00000.tar").read_bytes()
    end = len(whole.rstrip(b"\0"))
    for size in [0, 100, 512, 700, 2000, end // 3, end // 2, end - 2000, end - 1]:
        (tmp_path / "cut.tar").write_bytes(whole[:size])
        with pytest.raises(ManifestError, match=r"cut\.tar: ") as error:
            Shard(str(tmp_path / "cut.tar"))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["../evil.wav", "/etc/evil.wav", "a/../../evil.wav"])
def test_a_hostile_name_is_one_line(tmp_path, name):
    write_shard(tmp_path / "x.tar", [(name, b"x")])
    with pytest.raises(ManifestError, match=r"x\.tar: hostile"):
        Shard(str(tmp_path / "x.tar"))


def test_links_and_devices_in_a_shard_are_not_followed(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE):
            member = tarfile.TarInfo(f"{kind!r}.wav".strip("b'"))
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
    assert Shard(str(tmp_path / "x.tar")).members == {}


def test_compressed_and_missing_shards_and_members_are_one_line(corpus, tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w:gz") as tar:
        tar.add(corpus / "3.flac", "3.flac")
    with pytest.raises(ManifestError, match=r"x\.tar: not a whole, uncompressed tar"):
        load_audio(f"{tmp_path}/x.tar/3.flac", 8000)
    with pytest.raises(ManifestError, match=r"none\.tar: No such file"):
        load_audio(f"{tmp_path}/none.tar/3.flac", 8000)
    with pytest.raises(AudioError, match=r'shard_00001\.tar: no "x\.flac" in it'):
        load_audio(f"{corpus}/shards/shard_00001.tar/x.flac", 8000)
    write_shard(tmp_path / "bad.tar", [("a.wav", b"RIFF")])
    with pytest.raises(AudioError, match=r"bad\.tar/a\.wav: not a recording"):
        load_audio(f"{tmp_path}/bad.tar/a.wav", 8000)


def test_a_failed_write_leaves_no_shard(tmp_path):
    def files():
        yield "a", b"x"
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_shard(tmp_path / "x.tar", files())
    assert not list(tmp_path.iterdir())


def test_the_longest_unused_shards_are_let_go(corpus, monkeypatch):
    module.opened.clear()
    monkeypatch.setattr(module, "KEPT", {False: 2, True: 2})
    manifest = Manifest(corpus / "shards" / "manifest.jsonl")
    for utterance in manifest:
        load_audio(utterance, 8000)
    assert [path[-9:] for path in module.opened] == ["00005.tar", "00006.tar"]


def test_nemo_tarred_corpus(shared):
    manifest = Manifest(shared("nemo/tarred_an4") / "tarred_audio_manifest.json")
    assert len(manifest) == 32 and sorted(set(manifest.shards.tolist())) == [0, 1]
    for utterance in manifest:
        assert len(load_audio(utterance, 16000)) == pytest.approx(16000 * utterance.duration, abs=1000)
    plan = plan_batches(manifest.durations, shards=manifest.shards, batch_size=4)
    batches = load_batches(manifest, plan, alphabet=Alphabet(ENGLISH), sample_rate=16000)
    assert sorted(text for batch in batches for text in batch.texts) == sorted(utterance.text for utterance in manifest)


def test_nemo_s_names_for_parts_of_one_recording(corpus, tmp_path):
    write_shard(tmp_path / "audio_0.tar", [("talk.flac", (corpus / "3.flac").read_bytes())])
    lines = [
        {"audio_filepath": "talk.wav", "duration": 0.05, "text": "a", "shard_id": 0},
        {"audio_filepath": "talk-sub1.wav", "duration": 0.03, "offset": 0.05, "text": "b", "shard_id": 0},
    ]
    (tmp_path / "m.json").write_text("\n".join(map(json.dumps, lines)))
    a, b = (load_audio(utterance, 8000) for utterance in Manifest(tmp_path / "m.json"))
    np.testing.assert_array_equal(np.concatenate([a, b]), load_audio(corpus / "3.flac", 8000)[:640])


def test_two_manifests_number_their_shards_apart(corpus):
    manifest = Manifest(*[corpus / "shards" / "manifest.jsonl"] * 2, corpus / "m.jsonl")
    assert manifest.shards.max() == 13 and (manifest.shards[80:] == -1).all()


def test_copies_of_remote_shards_lie_on_the_disk(monkeypatch, tmp_path):
    monkeypatch.delenv("TMPDIR", raising=False)
    assert module.temporary_folder() in ("/var/tmp", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert module.temporary_folder() is None, "tempfile goes by TMPDIR itself"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_reads_shards(tmp_path):
    """Its parent's threads are not there, so that a pool begun before the fork would never answer."""
    write_shard(tmp_path / "a.tar", [("a.wav", b"sound")])
    recording = f"{tmp_path / 'a'}{module.INSIDE}a.wav"
    assert module.read_bytes(recording) == b"sound"
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        write_shard(tmp_path / "b.tar", [("a.wav", b"other")])
        found = module.read_bytes(recording), module.read_bytes(f"{tmp_path / 'b'}{module.INSIDE}a.wav")
        os._exit(0 if found == (b"sound", b"other") else 1)
    assert os.waitpid(child, 0)[1] == 0
