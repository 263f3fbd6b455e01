"""The pages of the labelling server. All that people and models wrote is made inert on the way in."""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping, Sequence
from string import Template
from typing import Any
from urllib.parse import quote

from judges.constitution import Constitution
from pipelines.labelling.audit import audit_lines
from pipelines.labelling.item import Item, other_side, swapped
from pipelines.labelling.markdown import rendered
from pipelines.labelling.store import Given, Progress
from pipelines.labelling.summary import agreement_lines
from pipelines.markup import capital, many, text

_TEMPLATES = importlib.resources.files("pipelines.labelling") / "templates"
_REPORT = importlib.resources.files("pipelines") / "templates" / "report.css"
SAID = {
    "twice": "You had answered that pair already, in another tab perhaps: your first answer is kept. "
    "Undo takes it back.",
    "stale": "Nothing was taken back: another tab went on or took it back already.",
    "undone": "Taken back. Answer the pair anew.",
}
"""What the status line may say, by the word in the address."""


def asset(name: str) -> str:
    """A file of the page: its style begins with the reports', for their colours."""
    own = (_TEMPLATES / name).read_text(encoding="utf-8")
    return _REPORT.read_text(encoding="utf-8") + own if name == "label.css" else own


def item_page(
    item: Item,
    swap: bool,
    annotator: str,
    progress: Progress,
    *,
    last: int | None,
    before: Given | None,
    said: str,
    constitution: Constitution | None,
    dispute: str = "",
) -> str:
    """One pair. `swap`: response b is shown as A. `last`: the answer that undo takes back. `before`: what
    they said of this pair and took back. `dispute`: HTML of what the annotators said."""
    first, second = (item.b, item.a) if swap else (item.a, item.b)
    who = quote(annotator, safe="")
    body = "\n".join(
        [
            '<a class="jump" href="#choices">To the choices</a>',
            _header("Which response is better?", annotator, progress),
            _flash(_status(said, before, swap)),
            _principles(constitution, opened=_done(progress) == 0),
            # The form is around all of it, so that its buttons stay in sight at the bottom.
            f'<main><form method="post" action="answer?annotator={who}">',
            f'<section aria-label="Prompt"><h2>Prompt</h2>{_prompt(item)}</section>',
            f'<div class="panes">{_pane("A", first)}{_pane("B", second)}</div>',
            dispute,
            _fields(item, who, last, before.reason if before else ""),
            "</form></main>",
        ]
    )
    return _page(f"Pair {_done(progress) + 1} of {_done(progress) + progress.left}", body)


def _done(progress: Progress) -> int:
    return progress.labelled + progress.skipped


def _header(heading: str, annotator: str, progress: Progress) -> str:
    done, whole = _done(progress), _done(progress) + progress.left
    return (
        f'<header><div class="top"><h1>{heading}</h1><p>{_place(progress)} · {text(annotator)}</p></div>'
        f'<progress max="{max(1, whole)}" value="{done}" aria-label="{done} of {whole} answered"></progress>'
        "</header>"
    )


def _place(progress: Progress) -> str:
    done = _done(progress)
    if not progress.left:
        return f"{done} of {done}"
    said = f"Pair {done + 1} of {done + progress.left}"
    if progress.seconds is None:
        return said
    minutes = round(progress.seconds / 60)
    return f"{said}, about {many(minutes, 'minute')} left" if minutes else f"{said}, less than a minute left"


def _status(said: str, before: Given | None, swap: bool) -> str:
    if said == "undone" and before is not None and before.label is not None:
        was = {"a": "A is better", "b": "B is better", "tie": "tie"}[other_side(before.label, swap)]
        return f"{SAID[said]} You had said: {was}."
    return SAID.get(said, "")


def _flash(said: str) -> str:
    """What happened, to be seen; label.js has it read out too, which a line that is there from the start is
    not."""
    return f'<p class="flash">{said}</p><p class="live" role="status" aria-live="polite"></p>'


def _principles(constitution: Constitution | None, *, opened: bool) -> str:
    if constitution is None:
        return ""
    items = "".join(f"<li>{text(principle.text)}</li>" for principle in constitution.principles)
    return (
        f'<details class="principles"{" open" if opened else ""}><summary><span>'
        f"what to judge by: {many(len(constitution.principles), 'principle')}</span></summary>"
        f"<ol>{items}</ol></details>"
    )


def _prompt(item: Item) -> str:
    if len(item.prompt) == 1:
        return rendered(item.prompt[0].content)
    return "".join(
        f'<div class="turn"><p class="role">{message.role}</p>{rendered(message.content)}</div>'
        for message in item.prompt
    )


def _pane(side: str, response: str) -> str:
    return f'<article class="pane"><h2 id="{side}">Response {side}</h2>{rendered(response)}</article>'


def _fields(item: Item, who: str, last: int | None, reason: str) -> str:
    off = "" if last is not None else " disabled"
    return f"""<input type="hidden" name="item" value="{text(item.id)}">
<div class="reason"><label for="reason"><kbd>r</kbd>Reason, if you like (Esc leaves the field)</label>
<textarea id="reason" name="reason" rows="1" maxlength="2000" data-key="r">{text(reason)}</textarea></div>
<div class="choices" id="choices" role="group" aria-label="Your answer">
<button class="main" name="choice" value="a" data-key="a"><kbd>a</kbd>A is better</button>
<button class="main tie" name="choice" value="tie" data-key="t"><kbd>t</kbd>Tie</button>
<button class="main second" name="choice" value="b" data-key="b"><kbd>b</kbd>B is better</button>
<button class="small skip" name="choice" value="skip" data-key="s"><kbd>s</kbd>Skip</button>
<button class="small undo" name="seq" value="{last or 0}" data-key="u"
 formaction="undo?annotator={who}"{off}><kbd>u</kbd>Undo</button>
</div>"""


def dispute(item: Item, given: Sequence[Given], sides: str, swap: bool) -> str:
    """What the annotators said, without their names, in terms of the sides that the adjudicator sees."""
    words = {"a": "A is better", "b": "B is better", "tie": "tie"}
    lines = []
    for told in given:
        said = words[other_side(told.answer, swap)]
        reason = f": <q>{text(told.reason)}</q>" if told.reason else ""
        turned = swapped(sides, told.annotator, item.id) != swap and bool(told.reason)
        note = " <small>(A and B were the other way round for this person)</small>" if turned else ""
        lines.append(f"<li>{said}{reason}{note}</li>")
    return f'<section><h2>What the annotators said</h2><ul class="votes">{"".join(lines)}</ul></section>'


def who_page(names: Sequence[str]) -> str:
    """Asks for the annotator's name; with `names` only these may be chosen."""
    if names:
        fields = "".join(
            f'<button name="annotator" value="{text(name)}">{text(name)}</button>' for name in names
        )
    else:
        fields = (
            '<label for="name">Your name, under which your labels are kept</label>'
            '<input type="text" id="name" name="annotator" maxlength="64" required autofocus '
            'autocomplete="username">'
            '<button class="main">Begin</button>'
        )
    body = f"""<main class="who"><h1>Who is labelling?</h1>
<p class="how">You will see a prompt and two responses at a time and say which is better. Answers are kept at
once: close the page whenever you like and come back later.</p>
<form method="get" action="./">{fields}</form></main>"""
    return _page("Who is labelling?", body)


def done_page(
    annotator: str, progress: Progress, last: int | None, found: Mapping[str, Any], *, whole: bool
) -> str:
    """Nothing is left for this annotator. `whole`: for nobody, so that what was found may be told."""
    who = quote(annotator, safe="")
    waiting = (
        f"<p>Other people have {many(progress.left, 'pair')} before them now. "
        f'<a href="./?annotator={who}">Look again</a> in some minutes.</p>'
        if progress.left
        else "<p>Thank you. Nothing is left for you to label.</p>"
    )
    again = (
        f'<form method="post" action="again?annotator={who}"><button>Show the '
        f"{many(progress.skipped, 'pair')} that you skipped again</button></form>"
        if progress.skipped
        else ""
    )
    undo = (
        f'<form method="post" action="undo?annotator={who}"><button name="seq" value="{last}" data-key="u">'
        "<kbd>u</kbd>Undo the last answer</button></form>"
        if last is not None
        else ""
    )
    told = agreement_lines(found) if whole else []
    if whole and found["audit"] is not None:
        told += audit_lines(found["audit"])
    body = f"""{_header("Done", annotator, progress)}
{_flash(f"{progress.labelled} labelled, {progress.skipped} skipped.")}
<main class="who">
{waiting}{again}{undo}
<section><h2>All of it</h2>
<p>{found["n_complete"]} of {many(found["n_items"], "pair")} have all their labels.</p>
{"".join(f"<p>{text(capital(line))}.</p>" for line in told)}
<p>The labels are in {text(found["out"])} on the machine that runs this page.</p>
</section></main>"""
    return _page("Done", body)


def refusal_page(message: str) -> str:
    """Of its own, without style or script: who sees it has no token for these."""
    top = '<!doctype html><html lang="en"><meta charset="utf-8"><title>Refused</title>'
    return f"{top}<p>{text(message)}</p></html>"


def _page(title: str, body: str) -> str:
    return Template((_TEMPLATES / "label.html").read_text(encoding="utf-8")).substitute(
        title=f"{title} · prefgen label", body=body
    )
