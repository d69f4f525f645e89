"""What each check of the preflight stage can be told in a spec file: one module per check."""
