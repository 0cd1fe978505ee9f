"""GLM, NIST's global mapping files: spellings that count as one, such as hesitations, rewritten before scoring."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from carnelian.errors import ScoringError
from carnelian.files import one_line
from carnelian.scoring.sclite.ctm import CtmWord
from carnelian.scoring.sclite.stm import StmFile, numbered_lines

CONDITION = re.compile(r';;\s+INPUT_DEPENDENT_APPLICATION\s*=\s*"([^"]*)"')
HEADER = re.compile(r"""\*\s*(\w+).*?["']([^"']*)["']""")
UPPER = str.maketrans("abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ")


@dataclass(frozen=True, slots=True)
class GlmRule:
    """`source => target / before __ after`: a piece of text rewritten where the text around it is such."""

    source: str
    target: str
    before: str = ""
    after: str = ""

    def fits(self, text: str, position: int) -> bool:
        """Whether the rule applies at a position of a text."""
        end = position + len(self.source)
        return (
            text.startswith(self.source, position)
            and text.startswith(self.after, end)
            and (not self.before or text[:position].endswith(self.before))
        )


class GlobalMap:
    """The rules of a GLM file for one kind of input, applied from left to right, the first that fits at each place."""

    def __init__(self, rules: Iterable[GlmRule], *, name: str = "", case_sensitive: bool = True, copy: bool = True):
        self.name, self.copy = name, copy
        self.fold = str if case_sensitive else str.upper
        self.by_first: dict[str, list[GlmRule]] = {}
        for rule in rules:
            if rule.source:
                key = replace(
                    rule, source=self.fold(rule.source), before=self.fold(rule.before), after=self.fold(rule.after)
                )
                self.by_first.setdefault(key.source[0], []).append(key)

    def rewrite(self, text: str) -> str:
        """The text after one pass of the rules; contexts are looked up in the text as it was."""
        folded, position, parts = self.fold(text), 0, []
        if len(folded) != len(text):  # a letter whose capital is two letters
            folded = text
        while position < len(text):
            rule = next((r for r in self.by_first.get(folded[position], ()) if r.fits(folded, position)), None)
            if rule:
                parts.append(rule.target)
                position += len(rule.source)
            else:
                parts.append(text[position] if self.copy else "")
                position += 1
        return "".join(parts)

    def transcript(self, text: str, *, split_hyphens: bool = False) -> str:
        """A transcript after the rules, as NIST's csrfilt applies them: in capitals, parentheses word by word.

        split_hyphens: words with a hyphen inside become several words [csrfilt -dh].
        """
        padded = f"  {' '.join(text.translate(UPPER).split())}  ".replace("(", "( ").replace(")", " )")
        mapped = self.rewrite(padded)
        if split_hyphens:
            mapped = re.sub(r"([^( ])-(?=[^) ])", r"\1 ", mapped)
        while (parted := re.sub(r"(\(\s+[^()\s]+\s+)([^()\s]+)", r"\1) ( \2", mapped)) != mapped:
            mapped = parted
        return " ".join(re.sub(r"\s+\)", ")", re.sub(r"\(\s+", "(", mapped)).split())


def read_glm(path: str | Path, kinds: Sequence[str], encoding: str = "utf-8") -> GlobalMap:
    """The rules of a GLM file that apply to input of such kinds: ("stm", "ref"), say, or ("ctm", "hyp")."""
    rules: list[GlmRule] = []
    settings = {"NAME": Path(path).name, "CASE_SENSITIVE": "T", "COPY_NO_HIT": "T"}
    comment, applies = "", True
    for number, line in numbered_lines(path, encoding):
        comment = comment or line.split()[0]
        if found := CONDITION.match(line):
            try:
                applies = any(re.search(found[1].lower(), kind) for kind in kinds)
            except re.error as error:
                raise ScoringError(
                    f'{path}:{number}: "{one_line(found[1], 60)}" is no regular expression ({error.msg})'
                ) from None
        if not applies or line.startswith(comment):
            continue
        if found := HEADER.match(line):
            settings[found[1].upper()] = found[2]
        elif content := line.split(comment)[0].strip():
            rules.append(parse_glm_rule(content, f"{path}:{number}"))
    yes = ("T", "TRUE", "YES")
    return GlobalMap(
        rules,
        name=settings["NAME"],
        case_sensitive=settings["CASE_SENSITIVE"].upper() in yes,
        copy=settings["COPY_NO_HIT"].upper() in yes,
    )


def parse_glm_rule(text: str, where: str) -> GlmRule:
    """A line such as `UH => %HESITATION / [ ] __ [ ]` as a rule."""
    source, arrow, target = text.partition("=>")
    if not arrow:
        raise ScoringError(f'{where}: "{one_line(text, 60)}" has no arrow. Write: A => B, or A => B / C __ D')
    before = after = ""
    head, slash, context = target.rpartition("/")
    closing, opening = context.find("]"), context.find("[")
    if slash and "_" in context and not -1 < closing < opening:
        target = head
        before, _, after = context.partition("_")
        after = after.lstrip("_")
    return GlmRule(*(bare(each) for each in (source, target, before, after)))


def bare(text: str) -> str:
    """Text without the white space around it and then without its brackets or quotes."""
    text = text.strip()
    return text[1:-1] if len(text) > 1 and (text[0], text[-1]) in (("[", "]"), ('"', '"')) else text


def map_stm(file: StmFile, rules: GlobalMap, *, split_hyphens: bool = False) -> StmFile:
    """A reference after the rules; segments that are not scored stay as they are."""
    segments = (
        each if each.ignored else replace(each, text=rules.transcript(each.text, split_hyphens=split_hyphens))
        for each in file.segments
    )
    return replace(file, segments=tuple(segments))


def map_ctm(words: Iterable[CtmWord], rules: GlobalMap, *, split_hyphens: bool = False) -> list[CtmWord]:
    """Recognized words after the rules: each on its own; several that come of one share its time evenly."""
    mapped: list[CtmWord] = []
    for word in words:
        if word.mark:
            mapped.append(word)
            continue
        text = rules.transcript(word.word, split_hyphens=split_hyphens)
        alternates = [each.split() for each in re.sub("[{}]", " ", text).split("/")] if "{" in text else [text.split()]
        for number, each in enumerate(alternates):
            if len(alternates) > 1:
                mapped.append(replace(word, start=0.0, duration=0.0, word="<ALT>" if number else "<ALT_BEGIN>"))
            seconds = word.duration / max(len(each), 1)
            mapped += [
                replace(word, start=round(word.start + n * seconds, 3), duration=round(seconds, 3), word=part)
                for n, part in enumerate(each)
            ]
        if len(alternates) > 1:
            mapped.append(replace(word, start=0.0, duration=0.0, word="<ALT_END>"))
    return mapped
