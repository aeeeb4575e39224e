"""Reads a run directory and writes what a person looks at: `report.html`, and the drawn architecture."""

from vaenas.report.architecture import draw_architecture
from vaenas.report.html import write_report

__all__ = ["draw_architecture", "write_report"]
