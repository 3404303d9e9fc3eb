"""siteprobe: a network probe agent for the small computers that hospitals keep on site."""

__version__ = "0.1.0"
