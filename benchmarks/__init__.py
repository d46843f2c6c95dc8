"""Measures what the pipeline costs, and how busy it keeps an endpoint: `./run.sh bench`.

Everything runs against the endpoint of tests/support/llm_server.py, in a process of its own, and beside a bare asyncio
loop over the same client, in turns; so a figure is a ratio on one machine in one quarter of an hour, and no time is
compared with one of another day.
"""
