"""Fuzzing of every decoder: any bytes give a snapshot or an error that is foreseen, and take little memory.

``make fuzz`` runs it for a minute each, by atheris (requirements/fuzz.txt); the suite runs it over its seeds.
"""
