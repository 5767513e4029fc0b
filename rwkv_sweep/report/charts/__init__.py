"""One definition of each chart, as a Vega-Lite specification: for the page, and as SVG and PNG."""
