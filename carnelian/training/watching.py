"""What is seen of a training's steps: the bar, the notes, the lines of the log."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from carnelian import console
from carnelian.training.fit import StepReport
from carnelian.training.log import Log


@contextmanager
def progress(log: Log, steps: int, first: int) -> Iterator[Callable[[StepReport], None]]:
    """A bar over the steps with loss, rate, and seconds of audio per second as they went of late; each step goes to the log."""
    with console.bar("training", steps) as advance:
        advance(first)
        recent: list[tuple[float, float]] = []
        scale = 0.0

        def watch(report: StepReport) -> None:
            nonlocal scale
            recent.append((audio_seconds(report), report.seconds))
            del recent[:-50]
            speed = sum(audio for audio, _ in recent) / sum(seconds for _, seconds in recent)
            advance(1, f"loss {report.loss:.3f}  rate {report.rate:.2g}  {speed:.0f} s/s")
            events = unusual_events(report, scale)
            scale = report.loss_scale
            for event in events:
                console.note(f"step {report.step}: {event}")
            write_report(log, report, events)

        yield watch


def audio_seconds(report: StepReport) -> float:
    """Seconds of speech in a step."""
    return sum(utterance.duration for batch in report.batches for utterance in batch.utterances)


def unusual_events(report: StepReport, scale: float) -> list[str]:
    """What is out of the ordinary in a step, each in a line; `scale` is the loss scale of the step before, 0 if unknown."""
    events = []
    if not report.finite and report.loss_scale != 1.0:
        events.append(
            f"the gradient overflows in fp16; the step was left out, the loss scale is now {report.loss_scale:g}"
        )
    elif not report.finite:
        events.append(f"{describe_nonfinite(report)} The step was left out")
    elif scale and report.loss_scale != scale:
        events.append(f"the loss scale is now {report.loss_scale:g}")
    if report.halved:
        events.append("out of memory; done again with the batch halved. Lower [train] batch_size or batch_seconds")
    if report.idle:
        events.append(f"{report.idle} utterances are too short for their transcripts; nothing was learnt from them")
    return events


def describe_nonfinite(report: StepReport) -> str:
    """Which batch gave a loss or gradient that is not finite."""
    names = [utterance.audio_filepath for batch in report.batches for utterance in batch.utterances]
    return f"loss {report.loss}, gradient {report.gradient_norm}, in the batch of {', '.join(names[:3])} ({len(names)} utterances)."


def write_report(log: Log, report: StepReport, events: list[str]) -> None:
    """A step's line in the log."""
    log.write(
        report.step,
        loss=report.loss,
        rate=report.rate,
        gradient_norm=report.gradient_norm,
        audio_seconds_per_second=audio_seconds(report) / report.seconds,
        waited=report.waited / report.seconds,
        **({"loss_scale": report.loss_scale} if report.loss_scale != 1.0 else {}),
        **({"events": events} if events else {}),
    )
