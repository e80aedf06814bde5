"""Long measurements of the pipeline. Each is a module: `python -m benchmarks.few_steps`.

Run them from the project's root. Shared code is in `core`.
"""
