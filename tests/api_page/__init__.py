"""The manual's page of all names, `docs/api.md`, made of the docstrings and tables of the code."""
