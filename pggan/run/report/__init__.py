"""The report page of a run: report.html, one file that needs no network."""

from pggan.run.report.page import Report

__all__ = ["Report"]
