"""Code generated from ``proto/`` by ``proto/generate.py``, committed so that nothing is generated while installing."""
