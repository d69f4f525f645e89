"""Starts `supervision/launch.py`: descriptions of programs that an older release wrote down name this path."""

import runpy
from os.path import abspath, dirname, join

if __name__ == "__main__":
    runpy.run_path(join(dirname(abspath(__file__)), "supervision", "launch.py"), run_name="__main__")
