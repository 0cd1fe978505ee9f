"""What a service measures of itself, for Prometheus. The only importer of prometheus-client."""

from typing import Any

from carnelian.errors import MissingExtraError

LATENCY_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300)
FACTOR_BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counters and histograms of one service."""

    def __init__(self) -> None:
        try:
            import prometheus_client as prometheus
        except ImportError:
            raise MissingExtraError("prometheus-client", "serve", "Serving") from None
        self.registry = registry = prometheus.CollectorRegistry()
        self._gauge, self._latest = prometheus.Gauge, prometheus.generate_latest
        self.content_type = prometheus.CONTENT_TYPE_LATEST
        self.requests = prometheus.Counter(
            "carnelian_requests", "Answers by route and status", ["route", "status"], registry=registry
        )
        self.latency = prometheus.Histogram(
            "carnelian_request_seconds",
            "From request to end of answer",
            ["route"],
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.errors = prometheus.Counter(
            "carnelian_errors", "Refusals and failures by kind", ["kind"], registry=registry
        )
        self.audio = prometheus.Counter("carnelian_audio_seconds", "Audio transcribed", registry=registry)
        self.factor = prometheus.Histogram(
            "carnelian_real_time_factor",
            "Seconds of waiting per second of audio",
            buckets=FACTOR_BUCKETS,
            registry=registry,
        )
        self.wait = prometheus.Histogram(
            "carnelian_queue_wait_seconds",
            "Of a piece of audio, for its batch",
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.batch = prometheus.Histogram(
            "carnelian_batch_pieces", "Pieces of audio in a batch", buckets=BATCH_BUCKETS, registry=registry
        )
        self.work = prometheus.Counter("carnelian_recognition_seconds", "Work of the recognizer", registry=registry)

    def watch(self, service: Any) -> None:
        """Adds what is read from the service when it is asked for."""
        scheduler, reader = service.scheduler, service.reader
        for name, description, value in (
            (
                "carnelian_queue_audio_seconds",
                "Audio that waits or is being recognized",
                lambda: scheduler.backlog_seconds,
            ),
            ("carnelian_queue_pieces", "Pieces of audio that wait", lambda: len(scheduler.waiting)),
            ("carnelian_requests_active", "Requests accepted and not yet answered", lambda: service.requests.total()),
            ("carnelian_live_sessions", "Live sessions", lambda: service.live),
            ("carnelian_decoder_restarts", "Times the audio decoder was replaced", lambda: reader.restarts),
        ):
            self._gauge(name, description, registry=self.registry).set_function(value)

    def observe_batch(self, pieces: int, seconds: float, work: float, waits: list[float]) -> None:
        """Takes the measures of a batch."""
        self.batch.observe(pieces)
        self.work.inc(work)
        for wait in waits:
            self.wait.observe(wait)

    def observe_audio(self, seconds: float, work: float) -> None:
        """Takes the measures of a recording that was transcribed."""
        self.audio.inc(seconds)
        if seconds:
            self.factor.observe(work / seconds)

    def observe_request(self, route: str, status: int, seconds: float) -> None:
        """Takes the measures of an answer."""
        self.requests.labels(route, str(status)).inc()
        self.latency.labels(route).observe(seconds)

    def text(self) -> bytes:
        """All measures in Prometheus' text form."""
        return self._latest(self.registry)
