"""Items in a folder: mapped files beside the truth, candidates, and what came and went since they were made."""
