"""The report page of a run: report.html, a single file that needs no network."""

from pggan.run.report.page import Report

__all__ = ["Report"]
