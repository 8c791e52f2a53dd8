"""The embedded registry: a directory that processes of one user on one machine share."""
