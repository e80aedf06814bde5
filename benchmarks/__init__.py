"""Questions about the pipeline that take longer than a test. Each is a file: `python -m benchmarks.few_steps`.

They are run from the project's root. What they have in common is in `core`.
"""
