"""Workloads to measure with: a seeded generator, readers of public traces, and the sender.

Nothing here knows Django or Kilotoken's tables: a workload enters by the ingestion API, as any
customer's would.
"""
