"""The page of models is what the tables of the code give, and its links lead somewhere."""

import re

from harness.own_pipelines import AS_BUILT_IN, BUILT_IN, OWN
from harness.weights.architectures import ARCHITECTURES
from tests.api_page.docstrings import slug
from tests.models_page.page import FILE, classes, page

PAGE = FILE.read_text(encoding="utf-8")


def test_the_page_is_what_the_code_gives() -> None:
    assert page() == PAGE, "docs/models.md is older than the code; write it again with: make docs"


def test_every_architecture_and_every_class_has_its_place() -> None:
    assert [row.name for row in ARCHITECTURES if f"\n| {row.name} |" not in PAGE] == []
    assert [name for name in {*OWN, *AS_BUILT_IN, *BUILT_IN, *classes()} if f"`{name}`" not in PAGE] == []


def test_every_link_leads_to_a_heading() -> None:
    for name, anchor in set(re.findall(r"\]\(([\w-]+\.md)?#?([\w-]*)\)", PAGE)):
        text = (FILE.parent / name).read_text(encoding="utf-8") if name else PAGE
        assert not anchor or anchor in {slug(title) for title in re.findall(r"^#+ (.*)", text, re.MULTILINE)}, (name, anchor)
