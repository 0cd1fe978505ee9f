"""The command line: a table from verb to function. Imports typer."""

import dataclasses
import importlib
import inspect
import io
import os
import shutil
import sys
import typing
from collections.abc import Callable, Iterator

import typer

from carnelian import __version__
from carnelian.errors import EXTRA_OF, CarnelianError, MissingExtraError
from carnelian.files import one_line

HELP = {"help_option_names": ["-h", "--help"]}
NARROW = 70  # columns below which the help is plain lines: boxes would cut the options' names
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
    "recipes": ("recipes", "List the recipes that come with the package, or copy one."),
    "train": ("train", "Train a model as a recipe says."),
    "models": ("pretrained_models", "List pretrained models, or download some."),
    "transcribe": ("transcribe", "Write down what recordings say."),
    "pseudo-label": ("pseudo_label", "Write a manifest to train on, with a recognizer's confident transcripts."),
    "serve": ("serve", "Serve a recognizer: OpenAI's API, live recognition and a page."),
    "evaluate": ("evaluate", "Measure word and character error rates."),
    "explore": ("explore", "Write a page to look at a corpus, its outliers and a model's worst utterances first."),
    "score": ("score", "Score transcripts of any origin: text, TRN, STM and CTM, manifests, JSON lines."),
    "compare": ("compare", "Say whether one of two recognizers is really better."),
    "pairs": ("pairs", "Write a recognizer's errors as pairs, which a corrector is trained on."),
    "correct": ("correct", "Correct transcripts, and find which corrections to trust."),
    "tune": ("tune", "Find the best weights of a language model."),
    "language-model": ("language_model", "Build, score, mix and filter n-gram language models."),
    "info": ("info", "Show what is inside a recipe or a checkpoint."),
    "benchmark": (
        "benchmark",
        "Time training, inference, decoding or data on this machine, and compare runs or commits.",
    ),
    "launch": ("launch", "Train on AWS: choose, start, watch, fetch and delete machines."),
    "average": ("average", "Average the weights of checkpoints."),
    "import": ("import_checkpoint", "Take another toolkit's checkpoint."),
    "export": ("export", "Write a checkpoint for another toolkit."),
}


def as_typer(function: Callable) -> Callable:
    """Returns the function with a signature typer reads: positional parameters as arguments, keyword-only ones as options.

    A keyword-only parameter whose type is a dataclass becomes one option for each of its fields.
    """
    hints = typing.get_type_hints(function, include_extras=True)
    groups: dict[str, type] = {name: hint for name, hint in hints.items() if is_group(hint)}
    parameters = [described(parameter, hint) for parameter, hint in command_parameters(function)]

    def run(**given):
        for name, kind in groups.items():
            given[name] = kind(**{field.name: given.pop(field.name) for field in dataclasses.fields(kind)})
        try:
            return function(**given)
        except BrokenPipeError:  # here: click would make it an exit code of 1
            close_output()

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__name__, run.__doc__ = function.__name__, function.__doc__
    return run


def is_group(hint: typing.Any) -> bool:
    """Returns whether a parameter of this type stands for several options: the fields of a dataclass."""
    return isinstance(hint, type) and dataclasses.is_dataclass(hint)


def command_parameters(function: Callable) -> Iterator[tuple[inspect.Parameter, typing.Any]]:
    """Yields each argument and option of a command with its type; of a dataclass each field is an option."""
    hints = typing.get_type_hints(function, include_extras=True)
    for parameter in inspect.signature(function).parameters.values():
        if is_group(hints[parameter.name]):
            yield from options_of(hints[parameter.name])
        else:
            yield parameter, hints[parameter.name]


def described(parameter: inspect.Parameter, hint: typing.Any) -> inspect.Parameter:
    """Returns the parameter with the annotation that typer reads: its type, and its help text as an option or argument."""
    kind, *extras = typing.get_args(hint) if typing.get_origin(hint) is typing.Annotated else (hint,)
    words = next((extra for extra in extras if isinstance(extra, str)), None)
    option = parameter.kind is parameter.KEYWORD_ONLY
    names = []
    if parameter.name.endswith("_") or (
        kind is bool and parameter.default is False
    ):  # `from_` is --from; no --no-overwrite
        names = ["--" + parameter.name.removesuffix("_").replace("_", "-")]
    info = typer.Option(*names, help=words) if option else typer.Argument(help=words, show_default=False)
    return parameter.replace(annotation=typing.Annotated[kind, info])


def options_of(kind: type) -> Iterator[tuple[inspect.Parameter, typing.Any]]:
    """Yields a keyword-only parameter with its default, and its type, for each field of a dataclass."""
    hints = typing.get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        default = field.default_factory() if callable(field.default_factory) else field.default  # type: ignore[misc]
        yield inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default), hints[field.name]


def functions_of(verb: str) -> dict[str, Callable]:
    """Returns the functions of a verb: one named "", or those of its verbs, such as "build" of language-model."""
    module = VERBS[verb][0]
    command = importlib.import_module(f"carnelian.commands.{module}")
    return getattr(command, f"{module.upper()}_VERBS", None) or {"": getattr(command, module)}


def add_verb(app: typer.Typer, name: str, function: Callable) -> None:
    """Adds a function as a verb. Its help is the docstring; a last paragraph "Example: ..." is shown below the options."""
    words = inspect.getdoc(function).partition("\n\nExample: ")[0]  # type: ignore[union-attr]
    app.command(name, help=words, epilog=example_of(function), context_settings=HELP)(as_typer(function))


def example_of(function: Callable) -> str:
    """Returns the last paragraph of a docstring, "Example: ...", as one line."""
    return f"Example: {' '.join(inspect.getdoc(function).partition('Example: ')[2].split())}"  # type: ignore[union-attr]


def asked_verb() -> str:
    """Returns the verb on the command line, or on the one that a shell wants completed."""
    typed = os.environ.get("_TYPER_COMPLETE_ARGS") or os.environ.get("COMP_WORDS")
    words = typed.split() if typed else sys.argv
    return next((word for word in words[1:] if not word.startswith("-")), "")


def application(asked: str) -> typer.Typer:
    """The command line with all verbs; only the one asked for is imported, so that help and completion come at once."""
    columns = shutil.get_terminal_size().columns
    narrow = columns < NARROW
    app = typer.Typer(
        name="carnelian",
        help="Speech recognition with CTC, from recordings to a measured recognizer.",
        epilog="Example: carnelian quickstart",
        no_args_is_help=True,
        context_settings={**HELP, "terminal_width": columns} if narrow else HELP,
        pretty_exceptions_enable=False,
        rich_markup_mode=None if narrow else "rich",
    )

    @app.callback(invoke_without_command=True)
    def root(version: typing.Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
        if version:
            print(f"carnelian {__version__}")
            raise typer.Exit

    for verb, (_, words) in VERBS.items():
        if verb != asked:
            app.command(verb, help=words)(lambda: None)
            continue
        functions = functions_of(verb)
        if "" in functions:
            add_verb(app, verb, functions[""])
            continue
        epilog = example_of(next(iter(functions.values())))
        group = typer.Typer(help=words, epilog=epilog, no_args_is_help=True, context_settings=HELP)
        for name, function in functions.items():
            add_verb(group, name, function)
        app.add_typer(group, name=verb)
    return app


def main() -> None:
    """The program: exit code 0 for success, 2 for what the user can fix, 128 + n when stopped by signal n."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files need not be text
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            application(asked_verb())(standalone_mode=True)
        finally:
            sys.stdout.flush()
    except CarnelianError as error:
        print(f"carnelian: {one_line(str(error), 1000)}", file=sys.stderr)
        sys.exit(2)
    except ModuleNotFoundError as error:
        if error.name not in EXTRA_OF:
            raise
        missing = MissingExtraError(error.name, EXTRA_OF[error.name], f"carnelian {asked_verb()}")
        print(f"carnelian: {missing}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # what reads our output has seen enough
        close_output()


def close_output() -> typing.NoReturn:
    """Ends the program as a broken pipe ends others: by the exit code of SIGPIPE, without a word."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(128 + 13)
