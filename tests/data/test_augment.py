"""Augmentations change what they should by as much as they should, and only the generator decides how."""

import numpy as np
import pytest
import soundfile

from carnelian.data.augment import (
    AUGMENTATIONS,
    at_speed,
    chain,
    gain,
    impulse,
    noise,
    shift,
    speed,
    telephone,
    white_noise,
)
from carnelian.data.utterance import Utterance, write_manifest
from carnelian.errors import RecipeError

TIME = np.arange(32000) / 16000
TONE = (0.25 * np.sin(2 * np.pi * 440 * TIME)).astype(np.float32)


def rng(seed=0):
    return np.random.default_rng(seed)


def decibels(audio):
    return 10 * np.log10(np.mean(np.square(audio, dtype=np.float64)))


def loudest_hertz(audio):
    return np.abs(np.fft.rfft(audio)).argmax() * 16000 / len(audio)


def manifest_of(tmp_path, audio, name):
    soundfile.write(tmp_path / f"{name}.wav", audio, 16000, subtype="FLOAT")
    write_manifest(tmp_path / f"{name}.jsonl", [Utterance(str(tmp_path / f"{name}.wav"), len(audio) / 16000)])
    return str(tmp_path / f"{name}.jsonl")


@pytest.mark.parametrize("factor", [0.9, 1.0, 1.1, 1.0371])
def test_speed_changes_length_and_pitch(factor):
    faster = at_speed(TONE, factor)
    assert abs(len(faster) - 32000 / factor) <= 1 and faster.dtype == np.float32
    assert loudest_hertz(faster) == pytest.approx(440 * factor, abs=0.6)
    assert decibels(faster) == pytest.approx(decibels(TONE), abs=0.1)


def test_speeds_are_drawn_from_their_range():
    drawn = speed(low=0.9, high=1.1)(1000, rng())
    assert len(set(drawn)) == 1000 and 0.9 <= drawn.min() < 0.901 and 1.099 < drawn.max() <= 1.1
    assert set(speed(factors=[0.9, 1.0, 1.1])(100, rng())) == {0.9, 1.0, 1.1}
    assert np.count_nonzero(speed(factors=[1.2], probability=0.25)(400, rng()) == 1.2) in range(70, 130)
    assert set(chain({"gain": {}, "speed": {"factors": [2.0]}}).speeds(5, rng())) == {2.0}
    assert chain({"gain": {}}).speeds is None


def test_gain_and_white_noise_are_in_decibels():
    assert decibels(gain(low=-6, high=-6)(TONE, rng())) == pytest.approx(decibels(TONE) - 6, abs=1e-3)
    assert decibels(white_noise(low=-40, high=-40)(TONE, rng()) - TONE) == pytest.approx(-40, abs=0.2)


@pytest.mark.parametrize("length", [1000, 32000, 100_000])
def test_noise_at_a_signal_to_noise_ratio(tmp_path, length):
    recorded = (0.1 * rng(1).standard_normal(length)).astype(np.float32)
    add = noise(manifest_of(tmp_path, recorded, "noise"), low=10, high=10)
    noisy = add(TONE, rng())
    assert noisy.dtype == np.float32 and len(noisy) == len(TONE)
    assert decibels(TONE) - decibels(noisy - TONE) == pytest.approx(10, abs=0.05)
    if length > len(TONE):
        assert not np.allclose(add(TONE, rng(1)), noisy), "another stretch of the long noise"


def test_a_silent_noise_adds_nothing(tmp_path):
    np.testing.assert_array_equal(noise(manifest_of(tmp_path, np.zeros(9000), "none"))(TONE, rng()), TONE)


def test_impulse_response(tmp_path):
    response = np.zeros(4000, np.float32)
    response[[100, 900]] = 0.8, 0.4  # the direct sound, late by 100 samples, and one echo
    both = np.stack([response, np.roll(response, 50)], axis=1)
    wet = impulse(manifest_of(tmp_path, both, "room"))(TONE, rng())
    dry = TONE + 0.5 * np.pad(TONE, (800, 0))[: len(TONE)]
    np.testing.assert_allclose(wet, dry * np.sqrt(np.mean(TONE**2) / np.mean(dry**2)), atol=1e-5)
    assert wet.dtype == np.float32


def test_shift_keeps_the_length():
    np.testing.assert_array_equal(shift(low=0.01, high=0.01)(TONE, rng()), np.pad(TONE, (160, 0))[:32000])
    np.testing.assert_array_equal(shift(low=-0.01, high=-0.01)(TONE, rng()), np.pad(TONE, (0, 160))[160:])
    np.testing.assert_array_equal(shift(low=5, high=5)(TONE, rng()), np.zeros(32000))


def test_telephone_is_narrow_and_coarse():
    high = (0.25 * np.sin(2 * np.pi * 5000 * TIME)).astype(np.float32)
    heard = telephone()(TONE + high, rng())
    spectrum = np.abs(np.fft.rfft(heard))
    assert len(heard) == 32000 and spectrum[10000] < 1e-3 * spectrum[880]
    assert 25 < decibels(TONE) - decibels(telephone()(TONE, rng()) - TONE) < 45, "mu-law gives about 38 dB"


def test_the_generator_alone_decides(tmp_path):
    manifest = manifest_of(tmp_path, 0.1 * rng(1).standard_normal(50_000), "noise")
    tables = {name: {"manifest": manifest} if name in ("noise", "impulse") else {} for name in AUGMENTATIONS}
    tables = {name: settings | {"probability": 0.5} for name, settings in tables.items()}
    augment = chain(tables | {"gain": {}}, 16000)  # always there, so that no two are alike
    results = [augment(TONE, rng((3, 1, index))) for index in range(20)]
    for index in reversed(range(20)):
        np.testing.assert_array_equal(augment(TONE, rng((3, 1, index))), results[index])
    assert len({result.tobytes() for result in results}) == 20
    np.testing.assert_array_equal(augment.speeds(50, rng(4)), augment.speeds(50, rng(4)))
    assert all(result.dtype == np.float32 and np.isfinite(result).all() for result in results)


def test_probability():
    assert sum(gain(low=3, high=3, probability=0.25)(TONE, rng(seed)) is TONE for seed in range(400)) in range(270, 330)


def test_the_chain_hands_on_the_sample_rate():
    silent = chain({"shift": {"low": 0.01, "high": 0.01}}, sample_rate=8000)(TONE, rng())
    assert np.flatnonzero(silent)[0] == 81


def test_an_empty_manifest_of_noises_is_one_line(tmp_path):
    write_manifest(tmp_path / "none.jsonl", [])
    for factory in (noise, impulse):
        with pytest.raises(RecipeError, match=r"none\.jsonl: an empty manifest"):
            factory(str(tmp_path / "none.jsonl"))


def test_unknown_names_and_keys_are_one_line():
    with pytest.raises(RecipeError, match=r"\[augment.sped\]: no such augmentation. Did you mean 'speed'"):
        chain({"sped": {}})
    with pytest.raises(RecipeError, match=r"augment.speed. speed: no setting is called 'lo'"):
        chain({"speed": {"lo": 0.9}})
    with pytest.raises(RecipeError, match=r"augment.noise. noise: the setting 'manifest' is missing"):
        chain({"noise": {"low": 5}})
    for settings in ({"low": 1.2}, {"low": "x"}, {"low": 0}, {"low": -1, "high": 2}):
        with pytest.raises(RecipeError, match=r"\[augment.speed\] low = .*(the lower first|expected a number from)"):
            chain({"speed": settings})
