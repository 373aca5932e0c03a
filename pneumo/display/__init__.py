"""How numbers, text and pages are shown, in a terminal and in HTML; knows nothing of runs."""
