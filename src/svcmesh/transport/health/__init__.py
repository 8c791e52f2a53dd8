"""How endpoints are asked whether they are well: one file for each way, on connections that no call uses."""
