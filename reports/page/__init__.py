"""The page of a run: one offline file with the verdict, the figures and the images."""
