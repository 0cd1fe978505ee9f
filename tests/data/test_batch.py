"""Every utterance once an epoch, whatever the ranks; the same batches, whatever the workers and the start."""

import threading

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from carnelian.data.alphabet import ENGLISH, Alphabet
from carnelian.data.augment import chain
from carnelian.data.batch import collate, load_batches, padding_share, plan_batches
from carnelian.data.utterance import Manifest, Utterance, write_manifest
from carnelian.errors import AudioError, ManifestError

ALPHABET = Alphabet(ENGLISH)
ALIKE = settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def like_librispeech(count, seed=0):
    """Durations spread as LibriSpeech's are: most at 12 to 16 s, a long tail of shorter ones."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(count) < 0.7, rng.uniform(11, 16.7, count), rng.uniform(1.5, 13, count)).astype("f4")


@ALIKE
@given(
    durations=st.lists(st.floats(0, 40, width=32), min_size=5, max_size=200),
    ranks=st.integers(1, 5),
    size=st.one_of(st.integers(1, 20), st.floats(1, 200)),
    shuffle=st.booleans(),
    seed=st.integers(0, 9),
)
@example(durations=[1.0] * 7, ranks=5, size=1, shuffle=True, seed=0)
@example(durations=[9.0, 1.0, 9.0, 9.0, 1.0, 9.0], ranks=4, size=10.0, shuffle=True, seed=0)
def test_each_utterance_once_over_all_ranks(durations, ranks, size, shuffle, seed):
    durations = np.array(durations, np.float32)
    limit = {"batch_size": size} if isinstance(size, int) else {"batch_seconds": size}
    plans = [
        plan_batches(durations, **limit, seed=seed, epoch=1, shuffle=shuffle, rank=rank, ranks=ranks)
        for rank in range(ranks)
    ]
    assert len({len(plan) for plan in plans}) == 1, "every rank has as many batches"
    assert all(len(batch) for plan in plans for batch in plan), "and none is empty"
    assert sorted(np.concatenate([batch for plan in plans for batch in plan])) == list(range(len(durations)))
    if isinstance(size, int):
        assert all(len(batch) <= max(size, 2 if ranks > 1 else 1) for plan in plans for batch in plan)
    elif ranks == 1:
        assert all(len(batch) * durations[batch].max() <= size or len(batch) == 1 for batch in plans[0])


@pytest.mark.parametrize("size", [{"batch_size": 3}, {"batch_seconds": 80.0}])
def test_ranks_share_what_one_process_would_see(size):
    durations = like_librispeech(500)
    doubled = {key: 2 * value for key, value in size.items()}
    alone = plan_batches(durations, **doubled, seed=5, epoch=2)
    first, second = (plan_batches(durations, **size, seed=5, epoch=2, rank=rank, ranks=2) for rank in range(2))
    for batch, *parts in zip(alone, first, second, strict=True):
        assert sorted(batch) == sorted(np.concatenate(parts))


@pytest.mark.parametrize("size", [{"batch_size": 16}, {"batch_size": 64}, {"batch_seconds": 240.0}])
def test_padding_is_little_and_chance_is_much(size):
    durations = like_librispeech(20_000)
    plans = [plan_batches(durations, **size, seed=1, epoch=epoch) for epoch in range(3)]
    for plan in plans:
        assert 0.04 < padding_share(plan, durations) <= 0.05
    pairs = [{(min(pair), max(pair)) for batch in plan for pair in zip(batch, batch[1:])} for plan in plans]
    assert len(pairs[0] & pairs[1]) < 0.05 * len(pairs[0]), "neighbours in one epoch are not so in the next"
    assert plan_batches(durations, **size, seed=2, epoch=0)[0].tolist() != plans[0][0].tolist()
    again = plan_batches(durations, **size, seed=1, epoch=1)
    assert all(np.array_equal(batch, other) for batch, other in zip(again, plans[1], strict=True))


def test_a_wider_share_of_padding_gives_more_chance():
    durations = like_librispeech(5000)
    assert padding_share(plan_batches(durations, batch_size=32, padding=1.0), durations) > 0.2


def test_unshuffled_and_sortagrad_batches_grow():
    durations = like_librispeech(300)
    for plan in (
        plan_batches(durations, batch_size=8, shuffle=False, epoch=3),
        plan_batches(durations, batch_size=8, sorted_first_epoch=True, epoch=0),
    ):
        assert np.all(np.diff(durations[np.concatenate(plan)]) >= 0)
    later = plan_batches(durations, batch_size=8, sorted_first_epoch=True, epoch=1)
    assert np.any(np.diff([durations[batch].max() for batch in later]) < 0)


def test_too_few_utterances_for_the_processes():
    with pytest.raises(ManifestError, match="2 utterances for 3 processes"):
        plan_batches(np.ones(2), batch_size=1, ranks=3)


def test_collate():
    utterances = [Utterance("a", 0.2, "ab"), Utterance("b", 0.1, "c é")]
    batch = collate(utterances, [np.ones(3, np.float32), np.full(2, 0.5, np.float32)], ALPHABET)
    assert batch.audio.tolist() == [[1, 1, 1], [0.5, 0.5, 0]] and batch.audio.dtype == torch.float32
    assert batch.audio_lengths.tolist() == [3, 2] and batch.target_lengths.tolist() == [2, 2]
    assert batch.targets.tolist() == [[1, 2], [3, 0]] and batch.targets.dtype == torch.int64
    assert batch.texts == ["ab", "c é"] and batch.utterances == utterances and len(batch) == 2
    moved = batch.to("meta")
    assert moved.audio.is_meta and moved.target_lengths.is_meta and moved.texts == batch.texts


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("noises"), np.random.default_rng(0)
    utterances = []
    for index in range(30):
        audio = 0.1 * rng.standard_normal(int(rng.integers(800, 8000)))
        soundfile.write(folder / f"{index}.wav", audio, 8000)
        utterances.append(Utterance(str(folder / f"{index}.wav"), len(audio) / 8000, "word " * (index % 3)))
    write_manifest(folder / "m.jsonl", utterances)
    return Manifest(folder / "m.jsonl")


def loaded(manifest, plan=None, **how):
    plan = plan_batches(manifest.durations, batch_size=4, seed=1, epoch=2) if plan is None else plan
    augment = chain({"speed": {}, "gain": {}, "white_noise": {}}, 16000)
    speeds = augment.speeds(len(manifest), np.random.default_rng(3))
    settings = {
        "alphabet": ALPHABET,
        "sample_rate": 16000,
        "seed": 1,
        "epoch": 2,
        "augment": augment,
        "speeds": speeds,
    } | how
    return load_batches(manifest, plan, **settings)


def same(one, other):
    tensors = ("audio", "audio_lengths", "targets", "target_lengths")
    return one.utterances == other.utterances and all(torch.equal(getattr(one, n), getattr(other, n)) for n in tensors)


def test_any_number_of_workers_gives_the_same_bits(manifest):
    alone = list(loaded(manifest, workers=0))
    for workers in (1, 2, 5):
        assert all(same(a, b) for a, b in zip(alone, loaded(manifest, workers=workers), strict=True))
    assert not any(same(a, b) for a, b in zip(alone, loaded(manifest, epoch=3), strict=True))


@pytest.mark.parametrize("start", [0, 1, 5, 8])
def test_a_start_gives_the_tail(manifest, start):
    tail = list(loaded(manifest, start=start))
    assert all(same(a, b) for a, b in zip(list(loaded(manifest))[start:], tail, strict=True))


def test_what_an_utterance_becomes_does_not_depend_on_its_batch(manifest):
    (alone,) = loaded(manifest, plan=[np.array([7])])
    (together,) = loaded(manifest, plan=[np.array([3, 7, 9])])
    length = int(alone.audio_lengths[0])
    assert together.audio_lengths[1] == length and torch.equal(together.audio[1, :length], alone.audio[0])
    assert not together.audio[1, length:].any()


def test_threads_end_when_the_batches_are_left_early(manifest):
    batches = loaded(manifest, workers=3)
    next(batches)
    assert any(thread.name.startswith("batches") for thread in threading.enumerate())
    batches.close()
    assert not any(thread.name.startswith("batches") for thread in threading.enumerate())


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_recording_is_named(manifest, tmp_path, workers):
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    utterances = [manifest[0], Utterance(str(tmp_path / "bad.wav"), 1.0)]
    batches = loaded(utterances, plan=[np.array([0]), np.array([1, 0]), np.array([0])], workers=workers)
    assert len(next(batches)) == 1
    with pytest.raises(AudioError, match=r"bad\.wav: "):
        list(batches)


def test_a_fault_of_the_code_names_the_utterance_too(manifest):
    def broken(audio, rng):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as error:
        list(loaded(manifest, plan=[np.array([4])], augment=broken))
    assert error.value.__notes__ == [f"while loading {manifest[4].audio_filepath}"]
