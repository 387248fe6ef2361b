"""HTML pages, SVG charts and PNG figures: how results are drawn, not what they say."""
