"""The report that this project answers, and what became of its runs: a page."""
