"""Live sessions over a true model that is fed piece by piece: the words of the whole recording, and each sample costs once."""

import asyncio

import numpy as np
import pytest
from random_engines import LETTERS, engine_of, speech_like

from carnelian.commands.options import RecognizerOptions
from carnelian.commands.serve import served_model
from carnelian.decoding.greedy import Greedy
from carnelian.inference.recognizer import Recognizer
from carnelian.serving.live import FinalResult, LiveSession, PartialResult, run_session
from carnelian.serving.service import Service

LIVE = {"name": "quartznet", "blocks": 5, "repeat": 1, "width": 0.1, "lookahead": 16}
WIDE = {"name": "quartznet", "blocks": 5, "repeat": 1, "width": 0.1}
RATE = 16_000


@pytest.fixture(scope="module")
def recognizer():
    return Recognizer(engine_of(LIVE, normalize="none"), Greedy(LETTERS))


def recognized(recognizer, audio, *, commits=(), block=1777, clear_at=None, **settings):
    """The events of a session that gets audio in blocks; commits after these samples."""
    service = Service(served_model(recognizer, RecognizerOptions(), name="m"))
    events, given = [], []

    async def run():
        service.scheduler.start()
        session = LiveSession(service, RATE, **settings)
        if session.stream is not None:
            step = session.stream.step
            session.stream.step = lambda audio, last=False: given.append(len(audio)) or step(audio, last)

        async def read():
            places = sorted({*range(0, len(audio), block), *commits, *([clear_at] if clear_at else []), len(audio)})
            for first, end in zip(places, places[1:]):
                await session.feed(audio[first:end])
                if end in commits:
                    session.commit()
                if end == clear_at:
                    await asyncio.sleep(0.2)
                    session.clear()
                await asyncio.sleep(0.001)

        async def show(event):
            events.append(event)

        await run_session(session, read, show)
        await service.scheduler.close()

    asyncio.run(run())
    return events, given


def finals(events):
    return [event.transcript.text for event in events if isinstance(event, FinalResult) and event.transcript.text]


@pytest.mark.parametrize("silence", [None, 0.6])
def test_the_words_are_those_of_the_whole_recording(recognizer, silence):
    audio = speech_like(14)
    events, given = recognized(recognizer, audio, silence=silence)
    whole = recognizer(audio)
    assert " ".join(finals(events)) == whole.text
    assert sum(given) == len(audio)
    words = [word for event in events if isinstance(event, FinalResult) for word in event.transcript.words]
    assert [(word.text, word.start) for word in words] == [
        (word.text, pytest.approx(word.start)) for word in whole.words
    ]
    partials = [event.transcript.text for event in events if isinstance(event, PartialResult)]
    assert len(partials) > 1 and whole.text.startswith(partials[0][:10])


def test_a_long_speech_is_cut_without_losing_a_word(recognizer):
    audio = speech_like(40)
    events, given = recognized(recognizer, audio, silence=None, block=50_000)
    assert len(finals(events)) > 2 and sum(given) == len(audio)
    assert "".join(finals(events)).replace(" ", "") == recognizer(audio).text.replace(" ", "")


def test_after_a_commit_the_next_segment_stands_for_itself(recognizer):
    audio, commit = speech_like(9), 70_001
    events, _ = recognized(recognizer, audio, silence=None, commits=[commit])
    assert finals(events) == [recognizer(audio[:commit]).text, recognizer(audio[commit:]).text]


def test_what_was_cleared_is_forgotten(recognizer):
    audio, place = speech_like(9), 70_000
    events, _ = recognized(recognizer, audio, silence=None, clear_at=place)
    assert finals(events) == [recognizer(audio[place:]).text]


def test_hot_words_are_found_in_a_stream(recognizer):
    service = served_model(recognizer, RecognizerOptions(), name="m")
    audio = speech_like(4)
    stream = service.stream(("anna",))
    [alone] = service.recognize([audio], [("anna",)])
    assert stream.step(audio, last=True).text == alone.text != recognizer(audio).text


def test_other_models_recognize_segments_anew():
    plain = Recognizer(engine_of(WIDE, normalize="none"), Greedy(LETTERS))
    assert served_model(plain, RecognizerOptions(), name="m").stream is None
    stretched = Recognizer(engine_of(LIVE), Greedy(LETTERS), time_stretches=(1.0, 1.2))
    assert served_model(stretched, RecognizerOptions(), name="m").stream is None
    audio = speech_like(3)
    events, _ = recognized(plain, audio, silence=None)
    assert finals(events) == [plain(audio).text]


def test_no_words_are_made_of_the_background():
    """Alone, its features are normalized to the level of speech."""
    plain = Recognizer(engine_of(WIDE), Greedy(LETTERS))
    noise = np.random.default_rng(0).normal(0, 1e-3, 5 * RATE).astype(np.float32)
    assert plain(noise[: 2 * RATE]).text
    speech = speech_like(2.5)
    events, _ = recognized(plain, np.concatenate([speech, noise]), silence=None, commits=[len(speech)])
    assert finals(events) == [plain(speech).text]
    events, _ = recognized(plain, noise, silence=0.6)
    assert finals(events) == []
