"""The pick next to its rivals as one picture file, `report-pick.webp`, and the lines by which report.md shows it. Comments on
a pull request take no pictures of ours and stay text."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any, Final

from PIL import Image, ImageDraw, ImageFont

from harness.records import write_atomically
from harness.records.harmless_text import in_markdown
from reports.formatting import shortened
from reports.page.summary import MARKDOWN_LIMIT
from reports.page.thumbnails import PREFIX, strip
from reports.read.run import Run
from reports.verdict.recommendation import Recommendation

STRIP_NAME: Final = "report-pick.webp"
CELL: Final = 144
"""Pixels of a picture's side in the strip."""
GAP: Final = 6
BETWEEN: Final = 30
"""Pixels between the two prompts of a row."""
LINE: Final = 20
PROMPTS_PER_ROW: Final = 2
INK: Final = (27, 32, 48)
GROUND: Final = (248, 247, 243)
HOLE: Final = (226, 224, 216)
MARK: Final = (184, 80, 12)
LONGEST: Final = 160
BODY_AFTER: Final = 4
"""Lines of report.md above the picture: the suite's name, the verdict's sentence, and an empty line after each."""
STRIP_LINES: Final = 4
"""The picture, the lines on it, and an empty line after each."""
_PICTURE: Final = f"![The pick next to its rivals]({STRIP_NAME})"
CUT: Final = "… cut here; the page has the rest."


def illustrated(text: str, run: Run, rec: Recommendation, folder: Path | None = None) -> str:
    """The Markdown of a run with the strip below its verdict, which is written beside it; without a pick there is none, and one
    that an earlier verdict left is deleted. The text stays within MARKDOWN_LIMIT bytes: lines fall away at its end."""
    file = (run.folder if folder is None else folder) / STRIP_NAME
    shown = strip(run, rec)
    if shown is None:
        file.unlink(missing_ok=True)
        return text
    write_atomically(file, drawn(shown))
    return _within([*(lines := text.split("\n"))[:BODY_AFTER], *_said(shown), "", *lines[BODY_AFTER:]])


def text_alone(markdown: str) -> str:
    """The Markdown of a run without the strip and the lines on it, for a place that has no files of ours beside it."""
    lines = markdown.split("\n")
    if lines[BODY_AFTER:BODY_AFTER + 1] != [_PICTURE]:
        return markdown
    return "\n".join([*lines[:BODY_AFTER], *lines[BODY_AFTER + STRIP_LINES:]])


def drawn(shown: dict[str, Any]) -> bytes:
    """The strip as a WebP file: two prompts side by side in each row, and the candidates side by side for each prompt. The names
    that Pillow's own font cannot write have "?" in them; report.md has them whole, and the prompts."""
    columns, lines = shown["columns"], shown["lines"]
    wide = len(columns) * (CELL + GAP) - GAP
    high = 2 * LINE + CELL + 2 * GAP
    rows = [lines[at:at + PROMPTS_PER_ROW] for at in range(0, len(lines), PROMPTS_PER_ROW)]
    across = min(PROMPTS_PER_ROW, len(lines))
    image = Image.new("RGB", (across * (wide + BETWEEN) - BETWEEN + 2 * GAP, len(rows) * high + GAP), GROUND)
    pen = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        x = GAP + number % PROMPTS_PER_ROW * (wide + BETWEEN)
        top = GAP + number // PROMPTS_PER_ROW * high
        _write(pen, (x, top), f"prompt {number + 1} ({line['split']})", wide)
        for at, (column, cell) in enumerate(zip(columns, line["cells"], strict=True)):
            place = (x + at * (CELL + GAP), top + LINE)
            _picture(image, pen, place, cell)
            if column["pick"]:
                pen.rectangle((place[0], place[1], place[0] + CELL - 1, place[1] + CELL - 1), outline=MARK, width=3)
            _write(pen, (place[0], place[1] + CELL + 2), f"{'pick: ' if column['pick'] else ''}{column['label']}", CELL)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=84, method=4)
    return buffer.getvalue()


def _picture(image: Image.Image, pen: ImageDraw.ImageDraw, place: tuple[int, int], cell: dict[str, Any]) -> None:
    """One picture of the strip, whole and in the middle of its square; why there is none where there is none."""
    pen.rectangle((*place, place[0] + CELL - 1, place[1] + CELL - 1), fill=HOLE)
    if "src" not in cell:
        _write(pen, (place[0] + GAP, place[1] + CELL // 2 - LINE // 2), cell["why"], CELL - 2 * GAP)
        return
    with Image.open(io.BytesIO(base64.b64decode(cell["src"].removeprefix(PREFIX))), formats=("WEBP",)) as opened:
        picture = opened.convert("RGB")
    scale = CELL / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    picture = picture.resize(size, Image.Resampling.LANCZOS)
    image.paste(picture, (place[0] + (CELL - picture.width) // 2, place[1] + (CELL - picture.height) // 2))


def _write(pen: ImageDraw.ImageDraw, place: tuple[int, int], said: str, wide: int) -> None:
    """One line of text, cut to `wide` pixels."""
    font = ImageFont.load_default(13)
    said = said.replace("\N{NO-BREAK SPACE}", " ").encode("latin-1", errors="replace").decode("latin-1")
    fitting = said
    while fitting and pen.textlength(fitting, font=font) > wide:
        fitting = fitting[:-4] + "..." if len(fitting) > 4 else ""
    pen.text(place, fitting, fill=INK, font=font)


def _said(shown: dict[str, Any]) -> list[str]:
    """The lines of Markdown that show the strip and say what is in it; no text of a run can act in them."""
    names = ["".join(("the pick, " if c["pick"] else "", c["label"], f" ({c['role']})" if c["role"] else ""))
             for c in shown["columns"]]
    prompts = [f"{number}. {shortened(line['text'], LONGEST)} ({line['split']})"
               for number, line in enumerate(shown["lines"], start=1)]
    return [_PICTURE, "",
            f"{shown['at']}, seed {shown['seed']}; from left to right: {in_markdown('; '.join(names))}. "
            f"Prompts: {in_markdown('; '.join(prompts))}."]


def _within(lines: list[str]) -> str:
    """The lines in at most MARKDOWN_LIMIT bytes; where they are more, the last fall away, and it says so."""
    text = "\n".join(lines)
    if len(text.encode()) <= MARKDOWN_LIMIT:
        return text
    kept, size = [], len(CUT.encode()) + 2
    for line in lines:
        size += len(line.encode()) + 1
        if size > MARKDOWN_LIMIT or line == CUT:
            break
        kept.append(line)
    return "\n".join([*kept, "", CUT, ""])
