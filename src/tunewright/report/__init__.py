"""The written result of a run: evidence, report and the summary in the terminal."""

from tunewright.report.evidence import Evidence

__all__ = ["Evidence"]
