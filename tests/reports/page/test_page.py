"""The page: one file, no request, nothing in it acts, and what is missing is said."""

from __future__ import annotations

import base64
import gzip
import json
import re
import unicodedata
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.declare import DeepCache
from harness.records import Cell, Coverage, Journal, NoiseFloor
from harness.records.harmless_text import in_script
from reports import load_run, recommend, write_page
from reports.page.build import csv, render
from reports.page.layout import MODULES, module
from reports.page.shell import TEMPLATES
from reports.page.tables import loss_heading, provenance
from reports.read.run import Run
from reports.verdict.recommendation import Recommendation
from tests.reports import synthetic

LOADING = {"src", "href", "srcset", "data", "poster", "action", "background", "formaction"}


class Loads(HTMLParser):
    """Collects every attribute that could load something, and every element that acts by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self.tags: list[str] = []
        self.handlers: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.found += [(name, value or "") for name, value in attrs if name in LOADING]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]


def parsed(page: Path) -> Loads:
    loads = Loads()
    loads.feed(page.read_text(encoding="utf-8"))
    return loads


def block(page: Path, name: str) -> str:
    """The text of a script element."""
    found = re.search(rf'id="{name}">(.*?)</script>', page.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return found.group(1)


def unpacked(page: Path, name: str) -> str:
    return gzip.decompress(base64.b64decode(block(page, name))).decode()


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without figures, which take most of the time that a page takes."""
    monkeypatch.setattr("reports.page.build.FIGURES", {})


def test_the_page_loads_nothing_from_anywhere(merge_page: Path) -> None:
    assert all(value.startswith(("data:image/webp", "#")) for _, value in parsed(merge_page).found)


def test_the_page_is_smaller_than_ten_megabytes(merge_page: Path) -> None:
    assert merge_page.stat().st_size < 10_000_000


@pytest.mark.usefixtures("no_figures")
def test_a_page_keeps_to_its_budget_as_soon_as_pictures_can_make_it(merge_run: Run, merge_verdict: Recommendation,
                                                                    tmp_path: Path) -> None:
    bare = len(render(merge_run, merge_verdict, [], 0.001).encode())
    page = tmp_path / "report.html"
    for budget in (bare - 100_000, bare + 300_000):
        page.write_text(render(merge_run, merge_verdict, [], budget / 1e6), encoding="utf-8")
        assert page.stat().st_size <= max(budget, bare)
        notes = json.loads(block(page, "thumbnails"))["notes"]
        assert any("pictures are left out" in note for note in notes) == (budget < bare)


@pytest.mark.usefixtures("no_figures")
def test_the_command_line_takes_a_budget_for_the_page(tmp_path: Path) -> None:
    folder = synthetic.write_run(tmp_path / "run", synthetic.merge_suite(grid=synthetic.SMALL))
    assert main(["report", str(folder), "--page-budget", "0.001"]) == 0
    assert not any(json.loads(block(folder / "report.html", "thumbnails"))["encoded"])
    assert main(["report", str(folder)]) == 0
    assert all(json.loads(block(folder / "report.html", "thumbnails"))["encoded"])


@pytest.mark.usefixtures("no_figures")
def test_the_report_command_reads_the_journal_once_for_all_it_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = synthetic.write_run(tmp_path / "run", synthetic.merge_suite(grid=synthetic.SMALL))
    reads: list[Path] = []
    whole = Journal.read
    monkeypatch.setattr(Journal, "read", lambda journal: (reads.append(folder), whole(journal))[1])
    assert main(["report", str(folder)]) == 0
    assert reads == [folder]


@pytest.mark.parametrize("said", ["0", "-3", "nan", "inf", "much"])
def test_a_budget_that_is_no_size_is_refused(tmp_path: Path, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["report", str(tmp_path), "--page-budget", said])
    assert end.value.code == 2
    assert "not a number of megabytes above 0" in capsys.readouterr().err


def test_plotly_is_inlined_once_and_scripts_are_allowed_by_hash_alone(merge_page: Path) -> None:
    text = merge_page.read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy is not None
    assert "default-src &#39;none&#39;" in policy.group(1)
    assert "script-src &#39;sha256-" in policy.group(1)
    assert parsed(merge_page).tags.count("script") == 6


def test_markdown_and_table_lie_beside_the_page(merge_page: Path) -> None:
    assert (merge_page.parent / "report.md").read_text().startswith("## dress")
    assert len((merge_page.parent / "table.csv").read_text().splitlines()) == 841


def test_nothing_hostile_acts_in_the_page(hostile_folder: Path) -> None:
    page = write_page(hostile_folder)
    found = parsed(page)
    assert found.tags.count("script") == 6
    assert found.handlers == []
    assert found.tags.count("b") == page.read_text().count("<b>")
    assert "<b>suite</b>" not in page.read_text()
    prompts = json.loads(unpacked(page, "explorer-data"))["dimensions"][-2]["values"]
    assert {p["label"] for p in prompts} >= {synthetic.HOSTILE[0], "\\x1b[31mred\\x1b[0m dress"}


def test_json_in_a_script_element_cannot_end_it() -> None:
    said = in_script(json.dumps({"a": "</script><!--\u2028&"}, ensure_ascii=False))
    assert not set("<>&\u2028") & set(said)
    assert json.loads(said) == {"a": "</script><!--\u2028&"}


def test_formulas_in_the_csv_are_defused(hostile_folder: Path) -> None:
    assert "'=cmd" in csv(load_run(hostile_folder))


def test_control_characters_become_visible_in_the_csv(hostile_folder: Path) -> None:
    said = csv(load_run(hostile_folder))
    assert "\\x1b[31mred" in said
    assert not any(unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp") and c not in "\n\u200d" for c in said)


@pytest.mark.usefixtures("no_figures")
def test_an_image_that_cannot_be_read_leaves_a_reason(tmp_path: Path) -> None:
    folder = synthetic.write_run(tmp_path, synthetic.merge_suite(grid=synthetic.SMALL))
    next((folder / "images").glob("*.png")).write_bytes(b"not a picture")
    assert "picture not shown: it could not be read" in write_page(folder).read_text()


def test_the_modules_of_the_page_are_joined_without_imports_and_cannot_end_their_element() -> None:
    said = module()
    assert not re.search(r"^(import|export) ", said, re.MULTILINE)
    assert not re.search(r"</script|<!--", said, re.IGNORECASE)
    for name in MODULES:
        exported = re.findall(r"^export (?:const|class) (\w+)", (TEMPLATES / name).read_text(encoding="utf-8"), re.MULTILINE)
        assert all(len(re.findall(rf"^(?:const|class) {one}\b", said, re.MULTILINE)) == 1 for one in exported)


@pytest.mark.usefixtures("no_figures")
def test_keys_that_were_lost_are_listed_in_full_and_shared_lists_once(tmp_path: Path) -> None:
    lost = tuple(f"unet.lost.{i}" for i in range(40))
    folder = synthetic.write_run(tmp_path, synthetic.merge_suite(grid=synthetic.SMALL), extra=lambda c: [Coverage(
        candidate=c.name, stage="merge", component="vae", keys={"missing_in_b": lost})])
    text = write_page(folder).read_text()
    assert all(text.count(f"<code>{key}</code>") == 1 for key in lost)
    assert "40 keys missing in b" in text


def test_what_was_not_measured_is_said_and_not_shown_as_zero(hostile_folder: Path) -> None:
    text = write_page(hostile_folder).read_text()
    assert "not measured: no NVIDIA device" in text
    assert "OutOfMemoryError" in text


@pytest.mark.usefixtures("no_figures")
def test_the_noise_floor_stands_with_the_costs_only_when_there_is_one(merge_run: Run, merge_verdict: Recommendation) -> None:
    floor = NoiseFloor(candidate="alpha=0", cell=Cell(prompt="p00", seed=1, guidance=3.0), batch_size=16, largest_levels=2,
                       changed_share=0.01)
    assert "Two runs of the same candidate" in render(replace(merge_run, floors=(floor,)), merge_verdict, [])
    assert "Two runs of the same candidate" not in render(merge_run, merge_verdict, [])


def test_a_password_that_an_older_run_kept_is_not_on_its_page(merge_run: Run) -> None:
    words = ["pytest", "--shared-cache", "redis://ci:hunter2secret@cache/0"]
    assert provenance(replace(merge_run, head={**merge_run.head, "command": words}))["command"] == (
        "pytest --shared-cache redis://cache/0")


def test_a_run_without_images_still_makes_a_page(tmp_path: Path) -> None:
    folder = synthetic.write_run(tmp_path, synthetic.merge_suite(grid=synthetic.SMALL))
    (folder / "journal.jsonl").unlink()
    assert "No recommendation" in write_page(folder).read_text()


def test_the_page_of_a_quantization_suite_compares_with_the_baseline(quantization_run: Any) -> None:
    text = write_page(quantization_run.folder).read_text()
    assert "Quantization: what precision costs" in text
    assert "0 of 24" in text


@pytest.mark.parametrize(("fields", "heading"), [
    ({"runtime": "compiled"}, "Losses: what a runtime costs"), ({"savers": ("sdpa_math",)}, "Losses: what a saver costs"),
    ({"step_cache": DeepCache(), "runtime": "compiled"}, "Losses: what a runtime or a step cache costs")])
def test_the_section_of_losses_is_called_after_what_differs(quantization_run: Any, fields: dict[str, Any], heading: str) -> None:
    one = quantization_run.suite.candidates[0]
    suite = replace(quantization_run.suite, candidates=(one, replace(one, name="other", **fields)))
    assert loss_heading(replace(quantization_run, suite=suite))[1] == heading


def test_the_sections_stand_in_the_order_in_which_they_are_needed(quantization_run: Any) -> None:
    text = write_page(quantization_run.folder).read_text()
    found = re.findall(r'<h2 id="h-(\w+)">', text)
    assert found == ["pick", "why", "spot", "explorer", "colours", "cost", "loss", "gates", "sound", "from"]
    assert set(re.findall(r'<a href="#h-(\w+)">', text)) == set(found)


@pytest.mark.usefixtures("no_figures")
def test_the_table_lies_in_the_page_while_there_is_room_for_it(merge_page: Path, merge_run: Run,
                                                               merge_verdict: Recommendation, tmp_path: Path) -> None:
    assert unpacked(merge_page, "table") == (merge_page.parent / "table.csv").read_text(encoding="utf-8")
    small = tmp_path / "small.html"
    small.write_text(render(merge_run, merge_verdict, [], 0.1), encoding="utf-8")
    assert block(small, "table") == ""
    assert "is table.csv next to this page" in small.read_text()


@pytest.mark.usefixtures("no_figures")
def test_a_candidate_that_was_not_made_has_one_reason_instead_of_empty_cells(tmp_path: Path) -> None:
    suite = synthetic.quantization_suite()
    folder = synthetic.write_run(tmp_path, suite, not_offered={"int4": "int4 needs a GPU"})
    lines = [line for line in (folder / "journal.jsonl").read_text().splitlines() if '"int4"' not in line]
    (folder / "journal.jsonl").write_text("\n".join(lines) + "\n")
    run = load_run(folder)
    text = render(run, recommend(run), [])
    assert text.count("not measured: int4 needs a GPU") >= 3
    assert "no memory readings" not in text


def test_style_consistency_is_a_column_where_looks_were_told(merge_page: Path, merge_run: Run,
                                                             merge_verdict: Recommendation) -> None:
    assert '<th scope="col">Style consistency</th>' in merge_page.read_text()
    assert "100.0 % photo" in merge_page.read_text()
    never = replace(merge_run, images=merge_run.images.drop(columns=["style", "leanings"]))
    assert "Style consistency" not in render(never, merge_verdict, [])
