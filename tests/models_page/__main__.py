"""Writes `docs/models.md`: python -m tests.models_page, or `make docs`."""

from tests.models_page.page import FILE, page

FILE.write_text(page(), encoding="utf-8")
