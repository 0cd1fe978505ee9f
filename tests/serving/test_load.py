"""Many clients, faults and a shutdown: nothing is lost, everybody is answered in turn."""

import io
import os
import signal
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest
import soundfile
from fuzz.mutate import mutated

SCALE = "do re mi fa sol la ti"


@pytest.fixture(scope="module")
def sentences(singer, encoder):
    """(recording, words) of forty recordings of different lengths."""
    generator = np.random.default_rng(1)
    texts = [" ".join(generator.choice(SCALE.split(), generator.integers(1, 40))) for _ in range(40)]
    return [(encoder(singer(text)), text) for text in texts]


def test_every_client_gets_its_own_text_and_batches_are_shared(start, sentences):
    served = start(work=0.05)  # long enough that more comes meanwhile
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda each: served.transcribe(each[0]).json["text"], sentences * 3))
    assert answers == [text for _, text in sentences] * 3
    batches, pieces = served.metric("carnelian_batch_pieces_count"), served.metric("carnelian_batch_pieces_sum")
    assert pieces > batches  # by how much is a matter of the machine
    assert served.metric("carnelian_queue_audio_seconds") == 0


@pytest.mark.slow
def test_a_short_recording_does_not_wait_for_a_long_one(start, singer, encoder):
    served = start(work=0.005)  # an hour takes 18 s
    hour = np.tile(singer(SCALE), 1030)
    recording = encoder(hour, form="FLAC")
    with ThreadPoolExecutor(2) as pool:
        long = pool.submit(served.transcribe, recording, timeout=120)
        while served.metric("carnelian_queue_pieces") == 0:
            time.sleep(0.05)
        for _ in range(3):
            started = time.monotonic()
            assert served.transcribe(encoder(singer("do re mi"))).json["text"] == "do re mi"
            assert time.monotonic() - started < 2
        assert not long.done()
        assert long.result().json["text"] == " ".join([SCALE] * 1030)


def test_a_client_that_leaves_stops_its_work(start, singer, encoder, form):
    served = start(work=0.1)
    body, kind = form(encoder(np.tile(singer(SCALE), 200)))  # 70 s of work
    with socket.create_connection(("127.0.0.1", served.port)) as client:
        head = f"POST /v1/audio/transcriptions HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body)
        while served.metric("carnelian_requests_active") == 0:
            time.sleep(0.05)
    started = time.monotonic()
    while served.metric("carnelian_requests_active") or served.metric("carnelian_queue_audio_seconds"):
        time.sleep(0.05)
        assert time.monotonic() - started < 5
    assert served.transcribe(encoder(singer("do"))).json["text"] == "do"


def test_decoders_that_are_killed_are_replaced(start, singer, encoder):
    served = start(work=0.002)
    recording = encoder(np.tile(singer(SCALE), 60), form="FLAC")
    stop = time.monotonic() + 4
    with ThreadPoolExecutor(4) as pool:
        pending = []
        while time.monotonic() < stop:
            pending += [pool.submit(served.transcribe, recording) for _ in range(2)]
            time.sleep(0.7)
            with suppress(StopIteration, ProcessLookupError):
                os.kill(served.decoder(), signal.SIGKILL)
        answers = [each.result() for each in pending]
    assert [answer.json.get("text") for answer in answers] == [" ".join([SCALE] * 60)] * len(pending)
    assert served.metric("carnelian_decoder_restarts") > 3


@pytest.mark.slow
def test_a_stuck_decoder_makes_the_service_unready_until_it_is_replaced(start, singer, encoder):
    served = start(decoder_seconds=6.0)
    os.kill(served.decoder(), signal.SIGSTOP)
    answer = served.request("GET", "/health/ready")
    assert answer.status == 503 and answer.json["error"]["code"] == "not_ready"
    assert served.request("GET", "/health/live").status == 200
    recording = encoder(singer("do re"))
    while (answer := served.transcribe(recording)).status == 503:  # until it is replaced
        time.sleep(0.5)
    assert answer.json["text"] == "do re"
    assert served.request("GET", "/health/ready").status == 200


def flac_of_silence(hours: float) -> bytes:
    """Hours of silence in some hundred kB."""
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", 8000, 1, format="FLAC", subtype="PCM_16") as flac:
        for _ in range(round(hours * 60)):
            flac.write(np.zeros(8000 * 60, np.int16))
    return file.getvalue()


def test_bombs_cost_little(start):
    served = start(max_audio_seconds=3600.0)
    bomb = flac_of_silence(10)
    assert len(bomb) < 1 << 20
    before = served.memory()
    answer = served.transcribe(bomb)
    assert (answer.status, answer.json["error"]["code"]) == (400, "audio_too_long")
    slow = io.BytesIO()
    soundfile.write(slow, np.zeros(30_000, np.int16), 10, format="WAV")  # 50 minutes at 10 samples a second
    assert served.transcribe(slow.getvalue()).json["error"]["code"] == "invalid_audio"
    wide = struct.pack(
        "<4sI8sIHHIIHH4sI", b"RIFF", 1 << 30, b"WAVEfmt ", 16, 1, 1000, 8000, 16_000_000, 2000, 16, b"data", 1 << 30
    )
    assert served.transcribe(wide + bytes(1 << 20)).status == 400
    assert (
        served.transcribe(flac_of_silence(0.9)).json["text"] == ""
    )  # within the limit: an hour, decoded block by block
    assert served.memory() - before < 48 << 20


@pytest.mark.slow
def test_mutated_recordings_never_bring_it_down(start, singer, encoder):
    served = start()
    originals = [encoder(singer("do re"), form=form) for form in ("WAV", "FLAC", "OGG", "MP3", "AIFF")]
    generator = np.random.default_rng(7)
    for original in originals:
        served.transcribe(original)
    before = served.memory()
    with ThreadPoolExecutor(4) as pool:
        recordings = [mutated(originals[generator.integers(5)], generator) for _ in range(600)]
        statuses = [answer.status for answer in pool.map(served.transcribe, recordings)]
    assert set(statuses) <= {200, 400}
    assert served.memory() < 1.1 * before
    assert served.transcribe(originals[0]).json["text"] == "do re"


def test_slow_senders_and_cut_connections_hold_no_place(start, form, singer, encoder):
    served = start(idle_seconds=1.0, max_requests=8)
    body, kind = form(encoder(singer(SCALE)))
    head = f"POST /v1/audio/transcriptions HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    slow = [socket.create_connection(("127.0.0.1", served.port), timeout=20) for _ in range(20)]
    for client in slow:
        client.sendall(head.encode() + body[:1000])
    assert served.transcribe(encoder(singer("do"))).json["text"] == "do"
    for client in slow[:10]:
        client.close()
    for client in slow[10:]:
        assert b" 408 " in client.recv(4096)
    assert served.metric("carnelian_requests_active") == 0


def test_readers_that_do_not_read_are_let_go(start):
    """More answers than fit into the buffers between the two are asked for at once, and none is read."""
    served = start(idle_seconds=1.0)
    before, size = served.memory(), len(served.request("GET", "/page.js").body)
    clients = [socket.create_connection(("127.0.0.1", served.port), timeout=20) for _ in range(5)]
    for client in clients:
        with suppress(TimeoutError):
            client.settimeout(0.2)
            client.sendall(b"GET /page.js HTTP/1.1\r\nhost: x\r\n\r\n" * ((20 << 20) // size))
    until(lambda: sum(line["event"] == "the client does not read" for line in served.lines) == len(clients))
    assert served.memory() - before < 16 << 20
    assert served.request("GET", "/health/ready").status == 200


def test_connections_without_a_request_are_closed(start, singer, encoder):
    """Those that never sent a byte, those with half a request head, and those with half of a second one."""
    served = start(idle_seconds=1.0)
    head = b"GET /health/live HTTP/1.1\r\nhost: x\r\n"
    clients = [socket.create_connection(("127.0.0.1", served.port), timeout=20) for _ in range(60)]
    for client in clients[20:]:
        client.sendall(head)
    for client in clients[40:]:
        client.sendall(b"\r\n")
        assert b" 200 " in client.recv(4096)
        client.sendall(head)
    assert served.transcribe(encoder(singer("do re"))).json["text"] == "do re"
    for client in clients:
        while client.recv(4096):
            pass
    assert served.request("GET", "/health/ready").status == 200


def test_a_long_request_is_not_taken_for_an_idle_connection(start, singer, encoder):
    """Also not behind a proxy, where the request has another address than its connection."""
    served = start(idle_seconds=1.0, work=1.0)
    answer = served.transcribe(encoder(singer(SCALE)), {"x-forwarded-for": "192.0.2.1"})
    assert answer.status == 200 and answer.json["text"] == SCALE


def until(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_shutdown_finishes_what_was_accepted_and_refuses_the_rest(start, singer, encoder):
    served = start(work=0.1)
    recording = encoder(singer(" ".join([SCALE] * 5)))  # two seconds of work
    with ThreadPoolExecutor(2) as pool:
        accepted = pool.submit(served.transcribe, recording)
        while served.metric("carnelian_requests_active") == 0:
            time.sleep(0.02)
        served.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        refused = served.transcribe(recording)
        assert refused.status == 503
        assert 1 <= int(refused.headers["retry-after"]) <= 120
        assert served.request("GET", "/health/ready").status == 503
        assert accepted.result().json["text"] == " ".join([SCALE] * 5)
    assert served.stop() in (0, -signal.SIGTERM)
