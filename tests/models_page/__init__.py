"""The manual's page of models, `docs/models.md`, made of the tables of the code."""
