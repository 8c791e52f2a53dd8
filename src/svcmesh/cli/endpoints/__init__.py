"""`svcmesh resolve` and `svcmesh watch`: what a registry says, without a program around it."""
