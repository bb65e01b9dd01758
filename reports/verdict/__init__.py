"""Which candidate to ship: candidates compared, scored and picked, with reasons."""
