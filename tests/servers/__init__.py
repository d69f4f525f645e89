"""Real servers for tests and benchmarks that need more than pip can bring: each installs, builds and starts itself."""
