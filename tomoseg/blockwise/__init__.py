"""The engine: plans a volume as shards, runs them anywhere, records them, resumes."""
