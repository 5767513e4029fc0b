"""Figures drawn for reports, as SVG and PNG.

The charts of the page are drawn in the browser, by assets/report.
"""
