"""A real Kubernetes cluster with real pods on this machine, up in seconds once its programs are built.

`binaries` brings the programs, `control_plane` and `node` are the cluster, `gateway` is where users come in, `registry`
keeps images, `cluster` is what tests use: `with use() as cluster`. By hand: `python -m tests.servers.kubernetes up`.
"""
