"""A session: suites run one after another, from pytest or from Python, with their verdicts and pages."""
