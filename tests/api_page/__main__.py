"""Writes `docs/api.md`: python -m tests.api_page, or `make docs`."""

from tests.api_page.page import FILE, page

FILE.write_text(page(), encoding="utf-8")
