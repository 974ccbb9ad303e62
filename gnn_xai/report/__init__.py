"""Pages of text and pictures that need no server."""

from gnn_xai.report.page import Picture, Section, write_report

__all__ = ["Picture", "Section", "write_report"]
