"""Writes the pages that are made from the code: python docs/make_reference.py

recipe-reference.md (the tables of a recipe), commands/ (a page for each verb), api.md (the public names of the package).
"""

import ast
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Iterator
from pathlib import Path

import carnelian
from carnelian.cli import VERBS, command_parameters, functions_of
from carnelian.ranges import Range
from carnelian.training.reference import reference_page

DOCS = Path(__file__).parent
#: what the examples need that the tests do not run
NOT_RUN = {
    "quickstart": "three minutes",
    **dict.fromkeys(
        (f"launch {name}" for name in ("small", "large", "status", "logs", "fetch", "stop", "delete")), "AWS"
    ),
    "language-model download": "a download",
}
#: what the examples need beside the files of tests/docs/conftest.py
PREPARE = {
    "correct text": "cp results.jsonl held_out.jsonl && carnelian correct threshold runs/corrector held_out.jsonl",
    "average": "cp runs/an4/step-00000400.safetensors runs/an4/step-00000390.safetensors",
    "compare": "carnelian evaluate runs/an4 data/an4/dev.jsonl --out a.jsonl && cp a.jsonl b.jsonl",
    "export fairseq": "carnelian train wav2vec/small --out runs/wav2vec",
    "export onnx": "rm an4.onnx",
    "import": "carnelian export nemo model.safetensors QuartzNet15x5Base-En.nemo",
    "language-model build": "tee other.txt held_out.txt book.txt < text.txt | tr ' ' '\\n' > words.txt",
    "language-model mix": "cp text.arpa a.arpa && cp an4.arpa b.arpa",
    "prepare": "rm -r data",
    "score": """
echo 'call A anna 0.0 2.0 <o> (uh) hello there' > reference.stm
echo 'call A 0.1 0.5 hello' > hypothesis.ctm
echo 'uh-huh => uh huh / [ ] __ [ ]' > english.glm
""",
    "synthesize": "echo 'It is 5 p.m.' > sentences.txt",
    "train": "rm -r runs",
    "tune": "rm decoding.toml",
}


def pages() -> dict[Path, str]:
    """Returns the generated pages: path below docs/ -> Markdown."""
    verbs = {Path("commands", f"{verb}.md"): verb_page(verb) for verb in VERBS}
    return {
        Path("recipe-reference.md"): reference_page(),
        Path("commands", "index.md"): verbs_page(),
        Path("api.md"): api_page(),
        **verbs,
    }


def verbs_page() -> str:
    """Returns the list of all verbs."""
    rows = [f"| [{verb}]({verb}.md) | {words} |" for verb, (_, words) in VERBS.items()]
    return "\n".join(
        [
            "# Commands\n",
            "`carnelian VERB -h` prints what these pages hold. They are made from the code by `python docs/make_reference.py`.\n",
            "| verb | |",
            "|---|---|",
            *rows,
            "",
            "Results go to standard output, bars and notes to standard error. The exit code is 0 for success, 2 for an error that you "
            "can fix (one line says how), and 130 after Ctrl-C.\n",
        ]
    )


def verb_page(verb: str) -> str:
    """Returns the page of a verb: what it does, an example, its arguments and options."""
    functions = functions_of(verb)
    parts = [f"# carnelian {verb}"]
    if "" not in functions:
        parts.append(VERBS[verb][1])
    for name, function in functions.items():
        words, _, example = (inspect.getdoc(function) or "").partition("\n\nExample: ")
        if name:
            parts.append(f"## {verb} {name}")
        parts.append(prose(words))
        if example:
            full = f"{verb} {name}".strip()
            marker = [f"<!-- prepare: {PREPARE[full]} -->"] if full in PREPARE else []
            marker += [f"<!-- not run: {NOT_RUN[full]} -->"] if full in NOT_RUN else []
            marker += ["<!-- background -->"] if verb == "serve" else []
            parts.append("\n".join([*marker, "```sh", " ".join(example.split()), "```"]))
        parts += parameter_tables(function)
    return "\n\n".join(parts) + "\n"


def parameter_tables(function: typing.Callable) -> Iterator[str]:
    """Yields the table of a command's arguments and the table of its options."""
    rows: dict[str, list[str]] = {"argument": [], "option": []}
    for parameter, hint in command_parameters(function):
        words = next((each for each in typing.get_args(hint) if isinstance(each, str)), "")
        if parameter.kind is not parameter.KEYWORD_ONLY:
            needed = "" if parameter.default is parameter.empty else " (may be left out)"
            rows["argument"].append(
                f"| `{parameter.name.upper()}` | {value_in_words(hint)} | {in_cell(words)}{needed} |"
            )
            continue
        flag = parameter.name.removesuffix("_").replace("_", "-")
        name = f"`--{flag}`" + (
            f", `--no-{flag}`" if bool in alternatives(hint) and parameter.default is not False else ""
        )
        default = "required" if parameter.default is parameter.empty else default_in_words(parameter.default)
        rows["option"].append(
            f"| {name} | {value_in_words(hint)} | {default} | {in_cell(words.removesuffix('; may be given again'))} |"
        )
    if rows["argument"]:
        yield "\n".join(["| argument | type | |", "|---|---|---|", *rows["argument"]])
    if rows["option"]:
        yield "\n".join(["| option | type | default | |", "|---|---|---|---|", *rows["option"]])


def alternatives(hint: typing.Any) -> tuple[typing.Any, ...]:
    """Returns the types that a value may have, without None."""
    if typing.get_origin(hint) is typing.Annotated:
        return alternatives(typing.get_args(hint)[0])
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return tuple(each for each in typing.get_args(hint) if each is not type(None))
    return (hint,)


def value_in_words(hint: typing.Any) -> str:
    """Returns the type of a command's value, and its range: "path", "path, repeatable" for a list."""
    kind = alternatives(hint)[0]
    origin = typing.get_origin(kind)
    if origin is list:
        return f"{value_in_words(typing.get_args(kind)[0])}, repeatable"
    if origin is tuple:
        return " and ".join(map(value_in_words, typing.get_args(kind)))
    if origin is typing.Literal:
        return " or ".join(map(str, typing.get_args(kind)))
    words = {Path: "path", str: "text", bool: "switch", int: "whole number", float: "number"}
    extras = typing.get_args(hint) if typing.get_origin(hint) is typing.Annotated else ()
    return " ".join([words[kind], *(str(each) for each in extras if isinstance(each, Range))])


def default_in_words(value: typing.Any) -> str:
    """Returns the default of an option; nothing where it is none, empty or off."""
    return "" if value is None or value is False or value in ("", [], ()) else f"`{value}`"


def in_cell(words: str) -> str:
    """Returns a text for a cell of a table."""
    return plain(words).replace("|", "\\|")


def plain(words: str) -> str:
    """Returns a text in which Markdown finds no HTML: <s> is to be shown."""
    return re.sub(r"(`[^`]*`)|<", lambda match: match[1] or "&lt;", words)


def prose(docstring: str, names: typing.Iterable[str] = ()) -> str:
    """Returns a docstring as Markdown. What begins with "name: ", of the arguments named, becomes an item of a list."""
    begins = re.compile(rf"(?:^|(?<=\. )|(?<=\n))(?=(?:{'|'.join(names) or '$^'})(?:, [a-z_]+)*:\s)")
    blocks = []
    for block in docstring.split("\n\n"):
        first, *items = [" ".join(each.split()) for each in begins.split(block)]
        blocks.append("\n".join([first, *(re.sub(r"^([^:]+)", r"- `\1`", each) for each in items)]).strip())
    return "\n\n".join(map(plain, blocks))


def api_page() -> str:
    """Returns the page of the public names of the package, from their docstrings."""
    parts = [
        "# Python API",
        "The public names of the package. They keep their meaning between releases; other modules may change. B batch, S samples, "
        "F features (mel bands), T feature frames, D encoder channels, O output steps, V symbols with the blank, L target symbols. "
        "This page is made from the code by `python docs/make_reference.py`.",
    ]
    for name in carnelian.PUBLIC:
        value = getattr(carnelian, name)
        parts += [
            f"## {name}",
            signature_of(value, name),
            prose(inspect.getdoc(value) or "", argument_names(value)),
        ]
        if inspect.isclass(value):
            parts += members(value)
    return "\n\n".join(filter(None, parts)) + "\n"


def members(kind: type) -> Iterator[str]:
    """Yields the public methods and properties of a class, each with signature and docstring, in the order of the source."""
    for name, member in vars(kind).items():
        function = member.fget if isinstance(member, property) else getattr(member, "func", member)
        function = getattr(function, "__func__", function)
        words = inspect.cleandoc(function.__doc__ or "") if inspect.isfunction(function) else ""
        if not words or (name.startswith("_") and name != "__call__"):
            continue
        yield f"### {kind.__name__}.{name}" if name != "__call__" else f"### {kind.__name__}(...)"
        if not isinstance(member, property) and not hasattr(member, "func"):
            yield signature_of(function, name.replace("__call__", kind.__name__.lower()))
        yield prose(words, argument_names(function))


def argument_names(value: typing.Any) -> list[str]:
    """Returns the names of a function's arguments; none for an exception, which has no signature of its own."""
    return [] if inspect.isclass(value) and issubclass(value, Exception) else list(inspect.signature(value).parameters)


def signature_of(value: typing.Any, name: str) -> str:
    """Returns a function's signature, or what makes an instance of a class, as a block of code, as the source has it."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(value))).body[0]
    returns = ""
    if isinstance(tree, ast.ClassDef):
        made = [each for each in tree.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"]
        shown = (
            arguments_of(made[0].args)
            if made
            else [ast.unparse(each) for each in tree.body if isinstance(each, ast.AnnAssign)]
        )
    else:
        assert isinstance(tree, ast.FunctionDef)
        shown, returns = arguments_of(tree.args), f" -> {ast.unparse(tree.returns)}" if tree.returns else ""
    if not shown and isinstance(tree, ast.ClassDef):
        return ""
    line = f"{name}({', '.join(shown)}){returns}"
    if len(line) > 100:
        line = "\n".join([f"{name}(", *(f"    {each}," for each in shown), f"){returns}"])
    return f"```text\n{line}\n```"


def arguments_of(arguments: ast.arguments) -> list[str]:
    """Returns the arguments of a function, each with its type and default; without self."""
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [*[None] * (len(positional) - len(arguments.defaults)), *arguments.defaults, *arguments.kw_defaults]
    shown = [
        ast.unparse(each) + (f" = {ast.unparse(default)}" if default else "")
        for each, default in zip([*positional, *arguments.kwonlyargs], defaults)
    ]
    if arguments.vararg:
        shown.insert(len(positional), f"*{ast.unparse(arguments.vararg)}")
    elif arguments.kwonlyargs:
        shown.insert(len(positional), "*")
    if arguments.kwarg:
        shown.append(f"**{ast.unparse(arguments.kwarg)}")
    return [each for each in shown if each not in ("self", "cls")]


if __name__ == "__main__":
    for path, text in pages().items():
        (DOCS / path).parent.mkdir(exist_ok=True)
        (DOCS / path).write_text(text, encoding="utf-8")
