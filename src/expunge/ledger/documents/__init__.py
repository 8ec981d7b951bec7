"""Documents for people and authorities: letter, annex, certificate, and the approval of a run."""
