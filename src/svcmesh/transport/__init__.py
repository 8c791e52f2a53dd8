"""Where attempts become I/O and I/O becomes outcomes, and nothing else; each file is loaded when it is first used."""
