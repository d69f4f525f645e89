"""The images of `docker-compose.yml`, made of what package registries hold: none can be pulled where the tests run.

Each has the published image's interface as far as the Compose file uses it: the names of its programs, its users, its
variables, the paths of its data. So the tests run the file that users run, with nothing but its image variables set.
"""
