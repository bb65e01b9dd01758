"""The first suite of somebody who has files and a question: what the files are, and the suite that a practised user would
write for them."""
