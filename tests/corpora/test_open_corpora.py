"""Common Voice, Multilingual LibriSpeech, VoxForge and TED-LIUM from small trees in their layouts; channels apart."""

import numpy as np
import pytest
import soundfile

from carnelian.corpora.common_voice import common_voice
from carnelian.corpora.folder import folder
from carnelian.corpora.mls import mls
from carnelian.corpora.tedlium import spell_tedlium, tedlium
from carnelian.corpora.voxforge import voxforge
from carnelian.data.audio import load_audio
from carnelian.data.utterance import read_manifest
from carnelian.errors import ManifestError


def record(path, seconds=0.5, channels=1, rate=8000, **given):
    """Channel n is a tone of 300 (n + 1) Hz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    times = np.arange(int(rate * seconds))[:, None] / rate
    audio = 0.3 * np.sin(2 * np.pi * 300 * (1 + np.arange(channels)) * times)
    soundfile.write(path, audio, rate, **given)


COLUMNS = (
    "client_id path sentence_id sentence sentence_domain up_votes down_votes age gender accents variant locale segment"
)
HEADER = COLUMNS.replace(" ", "\t")


@pytest.mark.parametrize("below", ["", "cv-corpus-24.0", "cv-corpus-24.0/es"])
def test_common_voice_without_its_other_lists(tmp_path, below):
    home = tmp_path / "cv-corpus-24.0" / "es"
    for number in range(3):
        record(home / "clips" / f"common_voice_es_{number}.mp3", rate=16000, format="MP3")
    lines = [f'ab{n}\tcommon_voice_es_{n}.mp3\ts{n}\t"¿Qué tal?", dijo.\t\t2\t0\t\t\t\t\tes\t\n' for n in range(3)]
    for name, part in (("train", lines[:1]), ("dev", lines[1:2]), ("test", lines[2:]), ("validated", lines)):
        (home / f"{name}.tsv").write_text(HEADER + "\n" + "".join(part))
    (home / "clip_durations.tsv").write_text("clip\tduration[ms]\ncommon_voice_es_0.mp3\t500\n")
    (home / "validated_sentences.tsv").write_text("sentence_id\tsentence\ns0\tHola\n")
    subsets = {name: list(utterances) for name, utterances in common_voice(tmp_path / below).items()}
    assert {name: len(those) for name, those in subsets.items()} == {"train": 1, "dev": 1, "test": 1, "validated": 3}
    assert subsets["train"][0].text == '"¿Qué tal?", dijo.' and subsets["train"][0].more == {"speaker": "ab0"}
    assert len(load_audio(subsets["dev"][0], 16000)) > 4000


def test_common_voice_of_two_languages_or_none(tmp_path):
    with pytest.raises(ManifestError, match=r"found no train\.tsv"):
        common_voice(tmp_path)
    for language in ("de", "es"):
        (tmp_path / language).mkdir()
        (tmp_path / language / "train.tsv").write_text(HEADER)
    with pytest.raises(ManifestError, match="the languages de, es"):
        common_voice(tmp_path)


def test_lists_without_texts_are_skipped_and_said(tmp_path, capsys):
    record(tmp_path / "a.wav")
    (tmp_path / "train.csv").write_text("path,text\na.wav,yes\n")
    (tmp_path / "reported.csv").write_text("sentence,locale\nno,es\n")
    assert list(folder(tmp_path)) == ["train"]
    assert "reported.csv list no recordings with texts" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".flac", ".opus"])
def test_mls_and_its_limited_parts(tmp_path, suffix, capsys):
    home = tmp_path / "mls_german"
    for part in ("train", "dev"):
        for name in ("10_20_000000", "10_20_000001"):
            given = {"format": "OGG", "subtype": "OPUS"} if suffix == ".opus" else {}
            record(home / part / "audio/10/20" / f"{name}{suffix}", rate=16000, **given)
        lines = "".join(f"10_20_00000{n}\tein satz nummer {n}\n" for n in range(3 if part == "dev" else 2))
        (home / part / "transcripts.txt").write_text(lines)
    handles = home / "train/limited_supervision/1hr/0/handles.txt"
    handles.parent.mkdir(parents=True)
    handles.write_text("10_20_000001\n")
    subsets = {name: list(utterances) for name, utterances in mls(home).items()}
    assert {name: len(those) for name, those in subsets.items()} == {"train": 2, "dev": 3, "train_1hr": 1}
    (one,) = subsets["train_1hr"]
    assert one.text == "ein satz nummer 1" and one.more == {"id": "10_20_000001", "speaker": "10"}
    assert len(load_audio(one, 16000)) and "1 transcribed recordings are not there" in capsys.readouterr().err
    with pytest.raises(ManifestError, match="Give one language's folder"):
        mls(tmp_path)


def test_voxforge_s_submissions(tmp_path, capsys):
    for name, kind, prompts in [
        (
            "Anna-20080504-qvg",
            "wav",
            "Anna-20080504-qvg/mfc/a0001 AUTHOR OF THE DANGER TRAIL\nAnna-20080504-qvg/mfc/a0009 LOST\n",
        ),
        ("anonymous-20081027-njq", "flac", "a0001 Not at this particular case\na0002 two\n"),
    ]:
        for number in (1, 2):
            record(tmp_path / "main" / name / kind / f"a000{number}.{kind}")
        (tmp_path / "main" / name / "etc").mkdir()
        (tmp_path / "main" / name / "etc" / ("PROMPTS" if kind == "wav" else "prompts-original")).write_text(prompts)
    (tmp_path / "main" / "b-20090101-xyz.tgz").write_bytes(b"packed")
    utterances = list(voxforge(tmp_path)["all"])
    assert [(each.text, each.more["speaker"]) for each in utterances] == [
        ("author of the danger trail", "Anna"),
        ("not at this particular case", "anonymous-20081027-njq"),
        ("two", "anonymous-20081027-njq"),
    ]
    said = capsys.readouterr().err
    assert "1 submissions are packed" in said and "1 recordings have no prompt, 1 prompts have no recording" in said


def test_tedlium_s_talks(tmp_path, capsys):
    stm = (
        "AlGore 1 inter_segment_gap 0 0.2 <o,,unknown> ignore_time_segment_in_scoring\n"
        "AlGore 1 AlGore 0.20 1.00 <o,f0,male> {NOISE} i 've been <unk> the(2) stage\n"
        "AlGore 1 AlGore 1.00 1.50 <o,f0,male> thank you\n"
    )
    for place in ("data", "legacy/dev", "legacy/test"):
        record(tmp_path / place / "sph/AlGore.sph", 2.0, rate=16000, format="NIST", subtype="PCM_16")
        (tmp_path / place / "stm").mkdir()
        (tmp_path / place / "stm/AlGore.stm").write_text(stm)
    (tmp_path / "data/stm/Lost.stm").write_text(stm)
    subsets = {name: list(utterances) for name, utterances in tedlium(tmp_path).items()}
    assert {name: len(those) for name, those in subsets.items()} == {"train": 2, "dev": 2, "test": 2}
    first = subsets["train"][0]
    assert (first.text, first.offset, first.duration) == ("i've been the stage", 0.2, pytest.approx(0.8))
    assert first.more == {"id": "AlGore-0000020-0000100", "speaker": "AlGore"}
    assert "1 talks have no recording" in capsys.readouterr().err
    assert spell_tedlium("it 's {SMACK} (applause)") == "it's (applause)"
    with pytest.raises(ManifestError, match="Give the folder of TED-LIUM"):
        tedlium(tmp_path / "legacy" / "dev")


def loudest_tone(audio, rate):
    return round(float(np.argmax(np.abs(np.fft.rfft(audio))) * rate / len(audio)))


def test_channels_with_words_of_their_own(tmp_path, run):
    record(tmp_path / "calls/one.wav", 1.0, 2)
    (tmp_path / "calls/one.1.txt").write_text("hello\n")
    (tmp_path / "calls/one.2.txt").write_text("good morning\n")
    record(tmp_path / "calls/two.wav", 1.0, 2)
    (tmp_path / "calls/two.txt").write_text("A: hi there\nB: hi\nA: bye\n")
    code, printed = run("prepare", "folder", tmp_path / "calls", tmp_path / "out", "--channels", "separate")
    utterances = list(read_manifest(tmp_path / "out" / "all.jsonl"))
    assert code == 0, printed.err
    assert [(each.text, each.more) for each in utterances] == [
        ("hello", {"channel": 0, "speaker": "one-A"}),
        ("good morning", {"channel": 1, "speaker": "one-B"}),
        ("hi there bye", {"channel": 0, "speaker": "two-A"}),
        ("hi", {"channel": 1, "speaker": "two-B"}),
    ]
    assert [loudest_tone(load_audio(each, 8000), 8000) for each in utterances[:2]] == [300, 600]


@pytest.mark.parametrize(("channel", "tone"), [("1", 300), ("2", 600)])
def test_one_channel_of_all(tmp_path, run, channel, tone):
    record(tmp_path / "calls/one.wav", 1.0, 2)
    (tmp_path / "calls/one.txt").write_text("hello\n")
    code, _ = run("prepare", "folder", tmp_path / "calls", tmp_path / "out", "--channels", channel)
    (one,) = read_manifest(tmp_path / "out" / "all.jsonl")
    assert code == 0 and loudest_tone(load_audio(one, 8000), 8000) == tone


def test_several_channels_are_not_mixed_silently(tmp_path, run):
    record(tmp_path / "calls/one.wav", 1.0, 2)
    (tmp_path / "calls/one.txt").write_text("hello\n")
    assert (
        "1 recordings have several channels, which will be averaged"
        in run("prepare", "folder", tmp_path / "calls", tmp_path / "out")[1].err
    )
    code, printed = run("prepare", "folder", tmp_path / "calls", tmp_path / "out3", "--channels", "3")
    assert code == 2 and "channel 3 is not in it, it has 2" in printed.err
    code, printed = run("prepare", "folder", tmp_path / "calls", tmp_path / "out3", "--channels", "left")
    assert code == 2 and '--channels "left"' in printed.err and not (tmp_path / "out3").exists()


def test_a_list_names_channels(tmp_path):
    record(tmp_path / "one.wav", 1.0, 2)
    (tmp_path / "calls.csv").write_text("path,text,channel\none.wav,hello,A\none.wav,hi,2\n")
    assert [each.more["channel"] for each in folder(tmp_path)["calls"]] == [0, 1]
    (tmp_path / "calls.csv").write_text("path,text,channel\none.wav,hello,left\n")
    with pytest.raises(ManifestError, match=r'calls\.csv:2: channel "left"'):
        list(folder(tmp_path)["calls"])
