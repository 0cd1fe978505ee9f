"""The command line: a table from verb to function. The door to typer."""

import importlib
import inspect
import os
import sys
import typing
from collections.abc import Callable

import typer

from carnelian import __version__
from carnelian.errors import CarnelianError

#: verb: (module in carnelian/commands, what it does in a line)
VERBS = {
    "quickstart": (
        "quickstart",
        "Synthesize a small corpus, train on it, evaluate and transcribe: the main job in 3 minutes.",
    ),
    "prepare": ("prepare", "Write the manifests of a corpus."),
    "synthesize": ("synthesize", "Make a small spoken corpus with espeak-ng."),
    "check": ("check", "Find what in a manifest would break or hurt a training."),
    "pieces": ("pieces", "Learn word pieces, for a model that writes in them."),
    "shard": ("shard", "Pack a manifest's recordings into tar shards."),
    "train": ("train", "Train a model as a recipe says."),
    "transcribe": ("transcribe", "Write down what recordings say."),
    "evaluate": ("evaluate", "Measure word and character error rates."),
    "compare": ("compare", "Say whether one of two recognizers is really better."),
    "tune": ("tune", "Find the best weights of a language model."),
    "language-model": ("language_model", "Build, score, mix and filter n-gram language models."),
    "info": ("info", "Show what is inside a recipe or a checkpoint."),
    "average": ("average", "Average the weights of checkpoints."),
    "import": ("import_checkpoint", "Take another toolkit's checkpoint."),
    "export": ("export", "Write a checkpoint for another toolkit."),
}


def as_typer(function: Callable) -> Callable:
    """The function with a signature typer reads: positional parameters as arguments, keyword-only ones as options."""
    hints = typing.get_type_hints(function, include_extras=True)
    parameters = []
    for parameter in inspect.signature(function).parameters.values():
        hint = hints[parameter.name]
        kind, *extras = typing.get_args(hint) if typing.get_origin(hint) is typing.Annotated else (hint,)
        words = next((extra for extra in extras if isinstance(extra, str)), None)
        option = parameter.kind is parameter.KEYWORD_ONLY
        described = typer.Option(help=words) if option else typer.Argument(help=words, show_default=False)
        parameters.append(parameter.replace(annotation=typing.Annotated[kind, described]))

    def run(**given):
        return function(**given)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__name__, run.__doc__ = function.__name__, function.__doc__
    return run


def application(asked: str) -> typer.Typer:
    """The command line with all verbs; only the one asked for is imported, so that help and completion come at once."""
    app = typer.Typer(
        name="carnelian",
        help="Speech recognition with CTC, from recordings to a measured recognizer.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )

    @app.callback(invoke_without_command=True)
    def root(version: typing.Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
        if version:
            print(__version__)
            raise typer.Exit

    for verb, (module, words) in VERBS.items():
        if verb != asked:
            app.command(verb, help=words)(lambda: None)
            continue
        command = importlib.import_module(f"carnelian.commands.{module}")
        if not hasattr(command, "VERBS"):
            app.command(verb)(as_typer(getattr(command, module)))
            continue
        group = typer.Typer(help=words, no_args_is_help=True)
        for name, function in command.VERBS.items():
            group.command(name)(as_typer(function))
        app.add_typer(group, name=verb)
    return app


def main() -> None:
    """The program: exit code 0 for success, 2 for what the user can mend, 128 + n when stopped by signal n."""
    asked = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    try:
        application(asked)(standalone_mode=True)
    except CarnelianError as error:
        print(f"carnelian: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # what reads our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
