"""Where cells are made into images: in this process, in local processes, on a Ray cluster."""
