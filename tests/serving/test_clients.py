"""Clients that people already have: OpenAI's own, Wyoming's and Vosk's, in an environment of theirs (`make clients`)."""

import re
import subprocess
from pathlib import Path

import pytest

SCALE = "do re mi fa sol la ti"


@pytest.fixture(scope="module")
def keyed(start):
    return start(keys=["right"], max_upload_bytes=1 << 20)


@pytest.fixture(scope="module", params=[None, 0.4])
def live(request, start):
    """A service that recognizes each segment anew, and one whose model is fed with live audio."""
    return start(keys=["right"], ahead=request.param)


def test_every_format_is_read_by_the_client(ask, keyed, singer, encoder):
    found = ask(keyed, "formats", encoder(singer(SCALE)))
    assert found["text"] == f"{SCALE}\n"
    assert found["srt"].startswith("1\n00:00:00,000") and found["vtt"].startswith("WEBVTT")
    kind, plain, request_id = found["json"]
    assert kind == "Transcription" and plain["text"] == SCALE and request_id.startswith("req_")
    assert plain["usage"] == {"type": "duration", "seconds": 3.5} and len(plain["logprobs"]) == 7
    kind, verbose, segment = found["verbose"]
    assert kind == "TranscriptionVerbose" and segment == "TranscriptionSegment"
    assert verbose["duration"] == 3.5 and isinstance(verbose["duration"], float)
    kinds = [kind for kind, _ in found["events"]]
    assert kinds[0] == "TranscriptionTextDeltaEvent" and kinds[-1] == "TranscriptionTextDoneEvent"
    assert "TranscriptionTextSegmentEvent" in kinds
    assert found["events"][-1][1]["text"] == SCALE
    assert found["models"] == ["tones"] and found["model"]["object"] == "model"
    assert found["translation"]["class"] == "BadRequestError"


def test_every_refusal_is_the_clients_own_class(ask, keyed, singer, encoder):
    found = ask(keyed, "errors", encoder(singer(SCALE)))
    classes = {name: (each["class"], each["status"]) for name, each in found.items()}
    assert classes == {
        "400": ("BadRequestError", 400),
        "401": ("AuthenticationError", 401),
        "404": ("NotFoundError", 404),
        "413": ("APIStatusError", 413),
        "422": ("UnprocessableEntityError", 422),
        "stream": ("BadRequestError", 400),
        "impatient": ("NotFoundError", 404),
    }
    assert all(each["request_id"] and each["type"] == "invalid_request_error" for each in found.values())
    assert found["401"]["code"] == "invalid_api_key" and found["404"]["param"] == "model"


def test_an_overload_is_refused_and_the_default_retries_succeed(ask, start, singer, encoder):
    served = start(max_requests=4, work=0.05)
    recording = encoder(singer(SCALE))
    refused = ask(served, "refused", recording)
    others = [each for each in refused if each != SCALE]
    assert others and all(each[:2] == ["InternalServerError", 503] and 1 <= int(each[2]) <= 120 for each in others)
    assert ask(served, "defaults", recording) == [SCALE] * 8
    limited = start(max_requests_per_client=2, work=0.05)
    refused = [each for each in ask(limited, "refused", recording) if each != SCALE]
    assert refused and all(each[:2] == ["RateLimitError", 429] and 1 <= int(each[2]) <= 120 for each in refused)


def test_a_realtime_session_with_commits(ask, live, singer, encoder):
    events = ask(live, "realtime", encoder(singer(SCALE, rate=24_000), 24_000))
    kinds = [event["type"].removeprefix("conversation.item.") for _, event in events]
    assert kinds == [
        "session.created",
        "session.updated",
        "error",
        "error",
        "input_audio_buffer.cleared",
        "input_audio_buffer.committed",
        "added",
        "input_audio_transcription.delta",
        "input_audio_transcription.completed",
    ]
    assert events[2][1]["error"]["event_id"] == "mine"
    assert events[3][1]["error"]["code"] == "input_audio_buffer_commit_empty"
    completed = events[-1][1]
    assert completed["transcript"] == SCALE and completed["usage"]["type"] == "duration"
    assert len(completed["logprobs"]) == 7
    assert events[5][1]["item_id"] == events[6][1]["item"]["id"] == completed["item_id"]


def test_a_realtime_session_that_finds_utterances(ask, live, singer, encoder):
    events = ask(live, "realtime-vad", encoder(singer(". do re mi . fa sol . .", rate=24_000), 24_000))
    kinds = [event["type"].removeprefix("conversation.item.") for _, event in events][5:]
    utterance = [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "added",
        "input_audio_transcription.delta",
        "input_audio_transcription.completed",
    ]
    assert kinds == utterance * 2
    assert [events[10][1]["transcript"], events[16][1]["transcript"]] == ["do re mi", "fa sol"]
    second = events[13][1]
    assert second["previous_item_id"] == events[7][1]["item_id"]


@pytest.mark.parametrize("ahead", [None, 0.4])
def test_wyomings_client(ask, start, singer, encoder, free_port, ahead):
    served = start(wyoming=free_port, ahead=ahead)
    served.port = free_port
    found = ask(served, "transcribe", encoder(singer("do re mi . fa")), "wyoming_client.py")
    kinds = ["transcript-start", "transcript-chunk", "transcript", "transcript-stop"]
    assert found == {
        "model": "tones",
        "languages": ["en"],
        "kinds": kinds,
        "chunks": ["do re mi fa"],
        "text": "do re mi fa",
    }


@pytest.mark.parametrize("ahead", [None, 0.4])
def test_vosks_client(ask, start, singer, encoder, ahead):
    served = start(ahead=ahead)
    found = ask(served, "srt", encoder(singer("do re mi . . fa sol . .")), "vosk_client.py")
    assert [each["text"] for each in found["result"] if each["text"]] == ["do re mi", "fa sol"]
    assert re.match(r"1\n00:00:00,000 --> 00:00:01,3\d\d\ndo re mi\n\n2\n00:00:03,[45]", found["formatted"])


@pytest.mark.slow
def test_the_openapi_document_says_what_the_service_does(clients, start):
    """Schemathesis, with a fixed seed: what fits the document is served, what does not is refused as documented."""
    served = start(max_audio_seconds=600.0)
    program, settings = Path(clients).parent / "schemathesis", Path(__file__).parent / "clients" / "schemathesis.toml"
    url = f"http://127.0.0.1:{served.port}/openapi.json"
    words = ("run", url, "--seed", "7", "--max-examples", "30", "--generation-database", "none")
    done = subprocess.run([program, "--config-file", settings, *words], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-5000:]
