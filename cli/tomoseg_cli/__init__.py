"""The command line: parses, builds frozen configurations, reports; imports tomoseg late."""
