"""A session: suites that are run one after the other, from pytest or from Python, with their verdicts and pages."""
